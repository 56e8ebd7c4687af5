"""The ceiling: how far two studies that measured the same lines and drugs agree, and what share of it a predictor has.

    pairs = shared_pairs(gdsc2, gdsc1, "ln_ic50")      what both measured, side by side
    of_pairs(pairs)            -> CEILING              Pearson, Spearman, RMSE, shift; per drug and over all
    beside(predictions, pairs) -> SHARES               each predictor's score, per drug, beside the agreement
    verdicts(shares)                                   drugs nobody predicts, drugs the screens do not agree on
    reliabilities((gdsc2, gdsc1, ccle), "ln_ic50")     which of three screens is the noisier

With y_a = t + e_a and y_b = t + e_b (one truth t, independent errors) a screen's reliability is var t / var y, and

    r(y_a, y_b)         = sqrt(rel_a rel_b)          the agreement
    r(p, y_a)           = r(p, t) sqrt(rel_a)        a score is attenuated (Spearman 1904, Am. J. Psychol. 15:72)
    corrected           = r(p, y_a) / sqrt(agreement)             = r(p, t) if both screens are equally reliable
    corrected_elsewhere = r(p, y_b) / sqrt(agreement)             the same from the screen that p never saw
    triad               = sqrt(r(p, y_a) r(p, y_b) / agreement)   = r(p, t) whichever is the more reliable
                                            (method of triads: Ocke and Kaaks 1997, Am. J. Clin. Nutr. 65:1240S)

``sqrt(agreement)`` is the ceiling, the score of someone who knows the truth, so a corrected value is also the share of
the ceiling that was reached. It is no wall, for two reasons that the three values tell apart. A screen that is more
reliable than the other makes ``corrected`` too high and ``corrected_elsewhere`` too low, and leaves the triad alone. A
predictor that learnt what is peculiar to its screen (assay, duration, medium) makes ``corrected`` and the triad too
high, even above 1, and leaves ``corrected_elsewhere`` alone. What both screens get wrong alike counts as truth in all
three. Where the screens agree too little to divide by, or so well that they must be one screen processed twice, there
is no corrected value but a reason.
"""

from workbench.ceiling._repeat import agreement, of_pairs, shared_pairs
from workbench.ceiling._shares import FLOOR, MOST, beside, verdicts
from workbench.ceiling._three import reliabilities

__all__ = ["FLOOR", "MOST", "agreement", "beside", "of_pairs", "reliabilities", "shared_pairs", "verdicts"]
