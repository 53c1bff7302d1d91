"""The classes a pretrained folder may name, and nothing else.

A folder's `model.json` holds short names; this table says which class each one is. A name that is
not here is refused, so a file can never choose code to run. Add a line when a class becomes part
of what is published.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from sciml import plugins
from sciml.errors import PretrainedError, did_you_mean

# What a plug-in's class of a kind inherits from; any class may be an argument of those.
# Faces from which classes have moved to others, as folders of before name them.
FORMER = {"sciml.physics.elliptic": "sciml.physics.walks"}
BASES = {"problem": "sciml.physics:PDE"}
BASES |= {kind: "torch.nn:Module" for kind in ("solution", "network", "operator")}

CLASSES: dict[str, dict[str, str]] = {
    "solution": {
        "TrialSolution": "sciml.networks:TrialSolution",
    },
    "problem": {
        "AllenCahn": "sciml.physics:AllenCahn",
        "Biharmonic": "sciml.physics:Biharmonic",
        "BlackScholesBarenblatt": "sciml.physics:BlackScholesBarenblatt",
        "HarmonicOscillator": "sciml.physics:HarmonicOscillator",
        "Heat": "sciml.physics:Heat",
        "HJBLinear": "sciml.physics:HJBLinear",
        "HJBLQG": "sciml.physics:HJBLQG",
        "HJBRosenbrock": "sciml.physics:HJBRosenbrock",
        "LogFokkerPlanck": "sciml.physics:LogFokkerPlanck",
        "Poisson": "sciml.physics:Poisson",
        "PoissonBox": "sciml.physics:PoissonBox",
        "SemilinearAllenCahn": "sciml.physics:SemilinearAllenCahn",
        "SemilinearHeat": "sciml.physics:SemilinearHeat",
        "SemilinearSineGordon": "sciml.physics:SemilinearSineGordon",
        "SineGordon": "sciml.physics:SineGordon",
        "Wave": "sciml.physics:Wave",
    },
    "network": {
        "FBPINN": "sciml.networks:FBPINN",
        "FourierMLP": "sciml.networks:FourierMLP",
        "MLP": "sciml.networks:MLP",
        "ModifiedMLP": "sciml.networks:ModifiedMLP",
        "PairNetwork": "sciml.networks:PairNetwork",
        "PerOutput": "sciml.networks:PerOutput",
        "RandomFeatures": "sciml.networks:RandomFeatures",
        "ResidualMLP": "sciml.networks:ResidualMLP",
        "Staged": "sciml.networks:Staged",
        "StandingWaves": "sciml.networks:StandingWaves",
        "TensorNetwork": "sciml.networks:TensorNetwork",
    },
    # Networks with a `schema` of their own, see `sciml.pretrained.predictors.pretrained_operator`.
    "operator": {
        "Ansatz": "sciml.networks:Ansatz",
        "TimeWindows": "sciml.networks:TimeWindows",
        "CGS": "sciml.networks:CGS",
        "EquiNO": "sciml.networks:EquiNO",
        "IGNN": "sciml.networks:IGNN",
        "MessagePassing": "sciml.networks:MessagePassing",
        "VPIONet": "sciml.networks:VPIONet",
        "WosFNO": "sciml.networks:WosFNO",
        "WosGINO": "sciml.networks:WosGINO",
        "NeuralopCloud": "sciml.networks:NeuralopCloud",
        "NeuralopGrid": "sciml.networks:NeuralopGrid",
        "RefinedCGS": "sciml.networks:RefinedCGS",
        "ExplicitNetwork": "sciml.networks:ExplicitNetwork",
        "HomoODE": "sciml.networks:HomoODE",
        "NeuralODE": "sciml.networks:NeuralODE",
        "DEQ": "sciml.networks:DEQ",
        "UnrolledNetwork": "sciml.networks:UnrolledNetwork",
        "ConstrainedFNO": "sciml.networks:ConstrainedFNO",
        "FNO": "sciml.networks:FNO",
        "FNODEQ": "sciml.networks:FNODEQ",
        "Corrector": "sciml.networks:Corrector",
        "DCDM": "sciml.networks:DCDM",
        "LearnedMultigrid": "sciml.networks:LearnedMultigrid",
        # between fields of people's own files
        "CloudOperator": "sciml.networks.fields:CloudOperator",
        "CloudUNet": "sciml.networks.fields:CloudUNet",
        "DeepONet": "sciml.networks.fields:DeepONet",
        "GridFNO": "sciml.networks.fields:GridFNO",
        "GridFNODEQ": "sciml.networks.fields:GridFNODEQ",
        "LibraryOperator": "sciml.networks.fields:LibraryOperator",
        "UNet": "sciml.networks.fields:UNet",
    },
    # Families of problems, which `sciml verify` draws from.
    "family": {
        "BoxPoisson": "sciml.physics.elliptic:BoxPoisson",
        "StarDiffusion": "sciml.physics.elliptic:StarDiffusion",
        "StarPoisson": "sciml.physics.elliptic:StarPoisson",
        "StarScreened": "sciml.physics.elliptic:StarScreened",
    },
    # Cells whose law an operator has learned: `sciml verify` and FE2 make them anew.
    "cell": {
        "DiskCell": "sciml.physics.solids:DiskCell",
        "MeshCell": "sciml.physics.solids:MeshCell",
        "PaperCell": "sciml.physics.solids:PaperCell",
        "RandomCell": "sciml.physics.solids:RandomCell",
    },
    # What may be an argument of those: solvers and their derivatives, constraints, their equations
    # and problems; systems of equations and the networks of their outputs.
    "part": {
        "FBPINN": "sciml.networks:FBPINN",
        "FourierMLP": "sciml.networks:FourierMLP",
        "MLP": "sciml.networks:MLP",
        "ModifiedMLP": "sciml.networks:ModifiedMLP",
        "PerOutput": "sciml.networks:PerOutput",
        "RandomFeatures": "sciml.networks:RandomFeatures",
        "ResidualMLP": "sciml.networks:ResidualMLP",
        "Staged": "sciml.networks:Staged",
        "StandingWaves": "sciml.networks:StandingWaves",
        "Burgers1D": "sciml.physics.suite:Burgers1D",
        "Burgers2D": "sciml.physics.suite:Burgers2D",
        "Cavity": "sciml.physics.suite:Cavity",
        "ChannelLong": "sciml.physics.suite:ChannelLong",
        "GrayScott": "sciml.physics.suite:GrayScott",
        "Heat2DHoles": "sciml.physics.suite:Heat2DHoles",
        "Heat2DLong": "sciml.physics.suite:Heat2DLong",
        "Heat2DMultiscale": "sciml.physics.suite:Heat2DMultiscale",
        "Heat2DVarying": "sciml.physics.suite:Heat2DVarying",
        "HeatCoefficient": "sciml.physics.suite:HeatCoefficient",
        "HeatND": "sciml.physics.suite:HeatND",
        "Helmholtz2D": "sciml.physics.suite:Helmholtz2D",
        "Kovasznay": "sciml.physics.suite:Kovasznay",
        "KuramotoSivashinsky": "sciml.physics.suite:KuramotoSivashinsky",
        "Poisson2DBlocks": "sciml.physics.suite:Poisson2DBlocks",
        "Poisson2DHoles": "sciml.physics.suite:Poisson2DHoles",
        "Poisson3DHoles": "sciml.physics.suite:Poisson3DHoles",
        "PoissonBoltzmann2D": "sciml.physics.suite:PoissonBoltzmann2D",
        "PoissonCoefficient": "sciml.physics.suite:PoissonCoefficient",
        "PoissonND": "sciml.physics.suite:PoissonND",
        "StepFlow": "sciml.physics.suite:StepFlow",
        "Wave1D": "sciml.physics.suite:Wave1D",
        "Wave2DLong": "sciml.physics.suite:Wave2DLong",
        "Wave2DVarying": "sciml.physics.suite:Wave2DVarying",
        "Anderson": "sciml.solvers:Anderson",
        "Backprop": "sciml.solvers:Backprop",
        "BiCGStab": "sciml.solvers:BiCGStab",
        "Broyden": "sciml.solvers:Broyden",
        "Burgers": "sciml.physics.evolution:Burgers",
        "BurgersConstraint": "sciml.physics.constraints:BurgersConstraint",
        "CG": "sciml.solvers:CG",
        "DarcyConstraint": "sciml.physics.constraints:DarcyConstraint",
        "DarcyFlow": "sciml.physics.evolution:DarcyFlow",
        "Dense": "sciml.solvers:Dense",
        "DiffusionSorption": "sciml.physics.evolution:DiffusionSorption",
        "DiffusionSorptionConstraint": ("sciml.physics.constraints:DiffusionSorptionConstraint"),
        "FixedPointIteration": "sciml.solvers:FixedPointIteration",
        "ForwardInverse": "sciml.solvers:ForwardInverse",
        "GMRES": "sciml.solvers:GMRES",
        "HardConstraint": "sciml.physics.constraints:HardConstraint",
        "Heat": "sciml.physics.evolution:Heat",
        "HeatConstraint": "sciml.physics.constraints:HeatConstraint",
        "HeterogeneousDiffusionSorption": (
            "sciml.physics.evolution:HeterogeneousDiffusionSorption"
        ),
        "HomotopyPath": "sciml.solvers:HomotopyPath",
        "Implicit": "sciml.solvers:Implicit",
        "JacobianFree": "sciml.solvers:JacobianFree",
        "LevenbergMarquardt": "sciml.solvers:LevenbergMarquardt",
        "Neumann": "sciml.solvers:Neumann",
        "Newton": "sciml.solvers:Newton",
        "NodalDarcy": "sciml.physics.steady:NodalDarcy",
        "NewtonKrylov": "sciml.solvers:NewtonKrylov",
        "ODE": "sciml.solvers:ODE",
        "ResidualFlow": "sciml.solvers:ResidualFlow",
        "Phantom": "sciml.solvers:Phantom",
        "Reversible": "sciml.solvers:Reversible",
        "ReversibleIteration": "sciml.solvers:ReversibleIteration",
        "SharedInverse": "sciml.solvers:SharedInverse",
        "SoftConstraint": "sciml.physics.constraints:SoftConstraint",
        "VorticityConstraint": "sciml.physics.constraints:VorticityConstraint",
        "VorticityNavierStokes": "sciml.physics.evolution:VorticityNavierStokes",
    },
}


def kind_of(spec: Mapping) -> str:
    """Return what a `model.json` describes: a "solution" of one PDE, or an "operator"."""
    return "solution" if spec["class"] in CLASSES["solution"] else "operator"


def resolve(kind: str, name: object) -> type:
    """Return the class that `name` stands for.

    Args:
        kind: A kind of the table.
        name: What the file says.

    Raises:
        PretrainedError: If the table has no such name.
    """
    known = CLASSES[kind]
    if isinstance(name, str) and ":" in name:
        return _from_plugin(kind, name)
    if not isinstance(name, str) or name not in known:
        raise PretrainedError(
            f"model.json names the {kind} class {name!r}",
            f"a name from the table of {kind} classes; paths and modules are never followed",
            did_you_mean(str(name), known),
        )
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _from_plugin(kind: str, name: str) -> type:
    """Return the class `package:Name` of a plug-in, which has to be of its kind.

    Raises:
        PretrainedError: If the package is no plug-in here, or has no such class.
    """
    package, _, attribute = name.partition(":")
    if package not in plugins.names():
        raise PretrainedError(
            f"model.json names the {kind} class {name!r}, and {package} is no plug-in here",
            "a class of an installed plug-in; paths and modules are never followed",
            f"If you trust it: from sciml import plugins; plugins.use('{package}'), or "
            f"{plugins.VARIABLE}={package} in the environment",
        )
    found = getattr(plugins.imported(package), attribute, None)
    module, _, base = BASES.get(kind, "builtins:object").partition(":")
    if not isinstance(found, type) or not issubclass(found, _imported(module, base)):
        raise PretrainedError(f"{package} has no {kind} class {attribute!r}", f"a {base}")
    return found


def _imported(module: str, attribute: str) -> type:
    return getattr(importlib.import_module(module), attribute)


def name_of(kind: str, target: str) -> str | None:
    """Return the name under which the table knows a dotted path, or None.

    A class of a plug-in has one if the package itself offers it: `mylab:Helmholtz`.

    Args:
        kind: A kind of the table.
        target: For instance `sciml.networks.pointwise.mlp.MLP`.
    """
    module, _, attribute = target.rpartition(".")
    homes = {name: place.partition(":") for name, place in CLASSES[kind].items()}
    found = [
        name
        for name, (home, _, attr) in homes.items()
        if attr == attribute and f"{module}.".startswith((f"{home}.", f"{FORMER.get(home)}."))
    ]
    package = target.partition(".")[0]
    if package in plugins.names():
        cls = getattr(plugins.imported(module), attribute, None)
        if cls is not None and getattr(plugins.imported(package), attribute, None) is cls:
            return f"{package}:{attribute}"
    return found[0] if found else None
