"""Options that make each tool quick enough for the rules that every tool must keep."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, dict[str, Any]] = {
    "feature-vis": {"steps": 4},
    "feature-vis-inner": {"steps": 4},
    "cppn": {"steps": 4, "layers": 3, "width": 6},
    "cppn-inner": {"steps": 4, "layers": 3, "width": 6},
    "prototypes": {"steps": 4},
    "adv-patch": {"steps": 4, "trials": 2},
    "tabor": {"steps": 4, "trials": 2},
    "neural-cleanse": {"steps": 4, "trials": 2},
    "feature-re": {"steps": 4, "restarts": 2, "trials": 2},
    "exemplars": {"first": 1, "shortlist": 6, "trials": 2},
    "style-vis": {"steps": 3, "scenes": 2, "trials": 2},
    "style-exemplars": {"first": 2, "shortlist": 4, "trials": 2},
    "text-cavs": {"steps": 3},
    "rfla-perturb": {"steps": 3, "trials": 2},
    "feud": {"steps": 2, "inversions": 2, "redraw": 2, "trials": 2},
    "rfla-gen": {"steps": 2, "trials": 2, "batch": 2},
    "rfla-gen2": {"steps": 2, "trials": 2, "batch": 2},
    "distil": {"steps": 3, "trials": 2},
    "style-search": {"library": 6, "scenes": 2, "shortlist": 4, "rounds": 1, "children": 2, "fresh": 2},
    "snafue": {"steps": 4, "synthetic": 3, "shortlist": 6, "trials": 2},
    "integrated-gradients": {"n_steps": 5},
    "occlusion": {"window": 24, "stride": 16},
    "gradient-shap": {"n_samples": 2, "baselines": 2},
    "smooth-grad": {"n_samples": 2},
    "deep-lift-shap": {"baselines": 2},
    "feature-ablation": {"cells": 3},
    "feature-permutation": {"cells": 3},
    "rise": {"masks": 8, "cells": 3},
    "lime": {"n_samples": 12, "cells": 3, "alpha": 1e-6},
    "kernel-shap": {"n_samples": 12, "cells": 3},
    "shapley-sampling": {"n_samples": 2, "cells": 4},
    "xrai": {"n_steps": 3},
}
