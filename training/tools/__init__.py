"""Tools around training: dry run, preview, pictures to train on, bundling and merging weights."""
