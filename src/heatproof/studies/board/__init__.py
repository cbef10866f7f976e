"""A board of explanations: which holds still, which can be bought, and at which price; with what others hand in."""
