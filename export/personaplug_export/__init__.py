"""Training and export of plugs and bundles. The only package of this project that imports torch."""
