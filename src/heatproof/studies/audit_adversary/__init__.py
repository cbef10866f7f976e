"""Attackers who know the audit: what each of them pays, and what the audit then says."""
