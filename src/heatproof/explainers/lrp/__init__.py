"""Layer-wise relevance propagation on the network's own graph, differentiable in pixels and weights.

``kinds`` says what each node of the graph is, ``graph`` traces a network once, ``plan`` chooses a rule for every node
that relevance passes, ``walk`` runs forward and back, ``affine`` is the view that the rules of weighted layers read,
``rules`` are the formulas, ``composites`` the lists that assign them, ``propagation`` is the explainer.
"""
