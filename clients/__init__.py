"""One node of a federation: a partner's or the lender's, with its files, training and scoring."""
