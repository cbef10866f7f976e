"""How well does the audit tell honest networks from lying ones?"""
