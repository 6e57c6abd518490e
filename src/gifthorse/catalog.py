"""The built-in components: one line each, the only index. A test holds it against the files."""

BUILTIN: dict[str, dict[str, str]] = {
    "dataset": {
        "emoji": "gifthorse.data.emoji:EmojiScenes",
        "folder": "gifthorse.data.folder:ImageFolder",
    },
    "model": {
        "tiny": "gifthorse.models.tiny:TinyResNet",
        "efficientnet-lite0": "gifthorse.models.lite0:EfficientNetLite0",
    },
    "trigger": {
        "patch": "gifthorse.plant.triggers.patch:PatchTrigger",
        "style": "gifthorse.plant.triggers.style:StyleTrigger",
        "natural": "gifthorse.plant.triggers.natural:NaturalTrigger",
    },
    "tool": {
        "oracle": "gifthorse.tools.sentinels:Oracle",
        "noise": "gifthorse.tools.sentinels:Noise",
        "blank": "gifthorse.tools.sentinels:Blank",
        "true-mask": "gifthorse.tools.sentinels:TrueMask",
        "edge": "gifthorse.tools.sentinels:EdgeDetector",
        "random-map": "gifthorse.tools.sentinels:RandomMap",
        "saliency": "gifthorse.tools.attribution.gradient:Saliency",
        "integrated-gradients": "gifthorse.tools.attribution.gradient:IntegratedGradients",
        "occlusion": "gifthorse.tools.attribution.perturbation:Occlusion",
        "feature-vis": "gifthorse.tools.synthesis.feature_vis:FeatureVis",
        "adv-patch": "gifthorse.tools.synthesis.adv_patch:AdversarialPatch",
        "tabor": "gifthorse.tools.synthesis.tabor:Tabor",
        "style-search": "gifthorse.tools.synthesis.style_search:StyleSearch",
        "snafue": "gifthorse.tools.retrieval.snafue:Snafue",
        "exemplars": "gifthorse.tools.retrieval.exemplars:Exemplars",
    },
    "judge": {
        "embed": "gifthorse.judges.embed:EmbedJudge",
        "clip": "gifthorse.judges.clip:ClipJudge",
        "vlm": "gifthorse.judges.vlm:VlmJudge",
    },
}
