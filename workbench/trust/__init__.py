"""How far a prediction can be trusted: intervals on any predictor, and where they stop holding.

wrapped = Conformal(lambda: predictors.make("ridge"), by=("treatment",))     # conformal.py
wrapped.fit(fold)
scored = score.unseal(predict.predictions(wrapped, fold), fold)
coverage.table(scored)                                                       # coverage.py
"""
