"""`sciml verify`: how wrong a trained model is, kind by kind."""
