"""Systems of equations with references of known accuracy: the public suite, and what all try first.

Definitions follow PINNacle (Hao et al. 2023, arXiv 2306.08827; code under the MIT licence). Where
it contradicts itself the class says so and takes the consistent form.
"""
