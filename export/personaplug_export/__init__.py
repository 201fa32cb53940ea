"""Training and export of plugs and bundles. The only package of this project that imports torch."""

import personaplug_edge as personaplug_edge  # before onnxruntime, whose telemetry it turns off
