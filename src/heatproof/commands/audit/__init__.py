"""``heatproof audit``: is this checkpoint's explanation honest?"""
