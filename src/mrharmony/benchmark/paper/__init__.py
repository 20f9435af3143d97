"""The paper's own evaluation, of any two domains and all of our methods beside it."""
