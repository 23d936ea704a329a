"""Turn a trained model into what is used: merged models, exported files and their proof."""
