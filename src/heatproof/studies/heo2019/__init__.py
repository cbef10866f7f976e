"""Heo, Joo and Moon 2019, Fooling Neural Network Interpretations via Adversarial Model Manipulation."""
