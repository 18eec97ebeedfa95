"""One toy model per module: closed forms, bounds and the Monte Carlo that checks them, in NumPy float64.

Every function says what it models, under which assumptions, whether it is exact, asymptotic or a bound, and where it
comes from. Random functions take a `numpy.random.Generator` and touch no other state.
"""
