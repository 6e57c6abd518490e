"""The store keeps what was written whole; the key is sealed."""

import errno
import stat

import pytest

from gifthorse import keys
from gifthorse.errors import StoreError
from gifthorse.spec import Spec
from gifthorse.store import Store
from gifthorse.types import Trojan

D = "ab" * 32


def put(store, text="hello", digest=D):
    return store.put("model", digest, lambda folder: (folder / "a.txt").write_text(text) and None)


def test_the_first_writer_wins_and_verify_notices_a_changed_file(tmp_path):
    store = Store(tmp_path)
    assert store.get("model", D) is None
    path = put(store)
    assert put(store, "other") == path
    assert (path / "a.txt").read_text() == "hello"
    (entry,) = store.ls()
    assert store.verify(entry) == []
    (path / "a.txt").write_text("HELLO")
    assert "changed" in store.verify(entry)[0]
    (path / "a.txt").unlink()
    assert "missing" in store.verify(entry)[0]


def test_a_writer_that_fails_or_is_interrupted_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def cut(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("model", D, cut)
    assert store.get("model", D) is None
    assert list((tmp_path / "store/v1/tmp").iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        Store(tmp_path).put("model", D, full)


def test_gc_keeps_what_is_wanted(tmp_path):
    store = Store(tmp_path)
    put(store)
    put(store, digest="cd" * 32)
    assert len(store.gc({D}, dry=True)) == 1
    store.gc({D})
    assert [e.digest for e in store.ls()] == [D]


def test_the_key_is_private_salted_and_noticed_when_changed(tmp_path):
    trojan = Trojan("fork", "natural", Spec("natural", {"glyph": "1F374"}), "cricket", None, "fork")
    key = keys.seal(tmp_path, D, [trojan])
    path = keys.key_path(tmp_path, D)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.open_key(tmp_path, D, key.hash) == key
    assert keys.seal(tmp_path, "cd" * 32, [trojan]).hash != key.hash
    path.write_text(path.read_text().replace("cricket", "drum"))
    with pytest.raises(StoreError, match="commits"):
        keys.open_key(tmp_path, D, key.hash)
    with pytest.raises(StoreError, match="missing"):
        keys.open_key(tmp_path, "ef" * 32)
