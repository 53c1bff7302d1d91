"""How wrong a model is: what `sciml verify` measures for each kind of model."""
