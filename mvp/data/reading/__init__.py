"""From files to pixels and texts, in processes that may die; and what was found in them."""
