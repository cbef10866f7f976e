"""``heatproof shift``: how far do the heatmaps move when the pixels are attacked?"""
