"""Who learns and who is tested: parts, folds, lists, and leaks between them."""
