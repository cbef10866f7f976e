"""What each study asks: the heading of its page."""

STUDIES = {
    "fooling-transformers": "Which explanation of a vision transformer is fooled most easily?",
    "fooling-frontier": "What does a lie cost in accuracy?",
    "gradcam-layers": "Grad-CAM at two layers, for two classes of one photo",
    "adversarial-photo": "One photo talked into another class: where do networks look?",
    "board": "Which explanation holds still, which can be bought, and at which price?",
    "audit-adversary": "What does a lie cost that the audit does not see?",
    "audit-benchmark": "How well does the audit tell honest networks from lying ones?",
    "defended-explainers": "What do defended explainers withstand?",
    "certified-share": "How much of a heatmap can be certified?",
    "chakraborty2022": "Which network's heatmaps stay in place? (Chakraborty et al. 2022)",
    "corruption-ranking": "Which explainer's maps hold still under fog, noise and JPEG?",
    "false-alarms": "How often does the audit accuse an honest network?",
    "face-verification": "Is this the same person, and why?",
    "published-map-attacks": "Do three published attacks on heatmaps work as their papers say?",
    "remedies": "Can a lie be taken out of a checkpoint?",
    "robust-training": "Which training makes heatmaps hold still?",
    "heo2019": "Fooling heatmaps by fine-tuning (Heo et al. 2019, tables)",
    "heo2019-figure4": "What stays true of a fooled network? (Heo et al. 2019, Figure 4)",
    "heo2019-figure5": "Is SmoothGrad harder to fool? (Heo et al. 2019, Figure 5)",
}
