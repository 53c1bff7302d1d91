"""How good a trained model is: scores, tables and pictures of tests."""
