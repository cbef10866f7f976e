"""``heatproof evaluate``: which explainer is faithful, which holds still?"""
