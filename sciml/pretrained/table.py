"""The classes a pretrained folder may name, and nothing else.

A folder's `model.json` holds short names; this table says which class each one is. A name that is
not here is refused, so a file can never choose code to run. Add a line when a class becomes part
of what is published.
"""

from __future__ import annotations

import importlib
import inspect

from sciml import plugins
from sciml.errors import PretrainedError, did_you_mean

# What constructors raise on arguments that they cannot use.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError)
REFUSALS += (RuntimeError, TypeError, ValueError)

LARGEST, LARGEST_SIZE = 1e300, 10**9  # numbers, and what is counted
PLAIN = {"bool": bool, "int": int, "float": float, "str": str, "None": type(None)}
WORDS = {bool: "true or false", int: "an integer of nine digits at most", float: "a number"}
WORDS |= {str: "a word", type(None): "null"}

# What a plug-in's class of a kind inherits from; any class may be an argument of those.
BASES = {"problem": "sciml.physics.pde:PDE"}
BASES |= {kind: "torch.nn:Module" for kind in ("solution", "network", "operator")}

CLASSES: dict[str, dict[str, str]] = {
    "solution": {
        "TrialSolution": "sciml.networks.trial:TrialSolution",
    },
    "problem": {
        "AllenCahn": "sciml.physics.ball:AllenCahn",
        "Biharmonic": "sciml.physics.biharmonic:Biharmonic",
        "BlackScholesBarenblatt": "sciml.physics.black_scholes:BlackScholesBarenblatt",
        "HarmonicOscillator": "sciml.physics.schrodinger:HarmonicOscillator",
        "Heat": "sciml.physics.low_dim_time:Heat",
        "HJBLinear": "sciml.physics.hjb:HJBLinear",
        "HJBLQG": "sciml.physics.hjb:HJBLQG",
        "HJBRosenbrock": "sciml.physics.hjb:HJBRosenbrock",
        "LogFokkerPlanck": "sciml.physics.low_dim_time:LogFokkerPlanck",
        "Poisson": "sciml.physics.ball:Poisson",
        "PoissonBox": "sciml.physics.elliptic:PoissonBox",
        "SemilinearAllenCahn": "sciml.physics.semilinear:SemilinearAllenCahn",
        "SemilinearHeat": "sciml.physics.semilinear:SemilinearHeat",
        "SemilinearSineGordon": "sciml.physics.semilinear:SemilinearSineGordon",
        "SineGordon": "sciml.physics.ball:SineGordon",
        "Wave": "sciml.physics.wave:Wave",
    },
    "network": {
        "FourierMLP": "sciml.networks.mlp:FourierMLP",
        "MLP": "sciml.networks.mlp:MLP",
        "ModifiedMLP": "sciml.networks.mlp:ModifiedMLP",
        "PairNetwork": "sciml.networks.pairs:PairNetwork",
        "ResidualMLP": "sciml.networks.mlp:ResidualMLP",
        "TensorNetwork": "sciml.networks.tensor:TensorNetwork",
    },
    # Networks with a `schema` of their own, see `sciml.pretrained.operator`.
    "operator": {
        "CGS": "sciml.networks.cgs:CGS",
        "EquiNO": "sciml.networks.equino:EquiNO",
        "IGNN": "sciml.networks.graph_baselines:IGNN",
        "MessagePassing": "sciml.networks.graph_baselines:MessagePassing",
        "VPIONet": "sciml.networks.vpionet:VPIONet",
        "WosFNO": "sciml.networks.wos_fno:WosFNO",
        "WosGINO": "sciml.networks.wos_gino:WosGINO",
        "NeuralopCloud": "sciml.networks.neuraloperator:NeuralopCloud",
        "NeuralopGrid": "sciml.networks.neuraloperator:NeuralopGrid",
        # between fields of people's own files
        "CloudOperator": "sciml.networks.fields.cloud:CloudOperator",
        "DeepONet": "sciml.networks.fields.deeponet:DeepONet",
        "GridFNO": "sciml.networks.fields.fno:GridFNO",
        "GridFNODEQ": "sciml.networks.fields.deq:GridFNODEQ",
        "LibraryOperator": "sciml.networks.fields.library:LibraryOperator",
        "UNet": "sciml.networks.fields.unet:UNet",
        "RefinedCGS": "sciml.networks.cgs_rounds:RefinedCGS",
        "ExplicitNetwork": "sciml.networks.flow_classifier:ExplicitNetwork",
        "HomoODE": "sciml.networks.homoode:HomoODE",
        "NeuralODE": "sciml.networks.flow_classifier:NeuralODE",
        "DEQ": "sciml.networks.deq:DEQ",
        "UnrolledNetwork": "sciml.networks.deq:UnrolledNetwork",
        "ConstrainedFNO": "sciml.networks.constrained:ConstrainedFNO",
        "FNO": "sciml.networks.fno:FNO",
        "FNODEQ": "sciml.networks.fno_deq:FNODEQ",
        "Corrector": "sciml.networks.corrector:Corrector",
        "DCDM": "sciml.networks.preconditioners.dcdm:DCDM",
        "LearnedMultigrid": "sciml.networks.preconditioners.learned_multigrid:LearnedMultigrid",
    },
    # Families of problems, which `sciml verify` draws from.
    "family": {
        "BoxPoisson": "sciml.physics.walks.families:BoxPoisson",
        "StarDiffusion": "sciml.physics.walks.families:StarDiffusion",
        "StarPoisson": "sciml.physics.walks.families:StarPoisson",
        "StarScreened": "sciml.physics.walks.families:StarScreened",
    },
    # Cells whose law an operator has learned: `sciml verify` and FE2 make them anew.
    "cell": {
        "DiskCell": "sciml.physics.solids.cells:DiskCell",
        "PaperCell": "sciml.physics.solids.cells:PaperCell",
        "RandomCell": "sciml.physics.solids.cells:RandomCell",
    },
    # What may be an argument of those: solvers and their derivatives, constraints, their equations
    # and problems.
    "part": {
        "Anderson": "sciml.solvers.fixed_point:Anderson",
        "Backprop": "sciml.solvers.unrolled:Backprop",
        "BiCGStab": "sciml.solvers.krylov:BiCGStab",
        "Broyden": "sciml.solvers.broyden:Broyden",
        "Burgers": "sciml.physics.evolution.burgers:Burgers",
        "BurgersConstraint": "sciml.physics.constraints.burgers:BurgersConstraint",
        "CG": "sciml.solvers.krylov:CG",
        "DarcyConstraint": "sciml.physics.constraints.darcy:DarcyConstraint",
        "DarcyFlow": "sciml.physics.evolution.darcy:DarcyFlow",
        "Dense": "sciml.solvers.dense:Dense",
        "DiffusionSorption": "sciml.physics.evolution.diffusion_sorption:DiffusionSorption",
        "DiffusionSorptionConstraint": (
            "sciml.physics.constraints.diffusion_sorption:DiffusionSorptionConstraint"
        ),
        "FixedPointIteration": "sciml.solvers.fixed_point:FixedPointIteration",
        "ForwardInverse": "sciml.solvers.shine:ForwardInverse",
        "GMRES": "sciml.solvers.gmres:GMRES",
        "HardConstraint": "sciml.physics.constraints.layer:HardConstraint",
        "Heat": "sciml.physics.evolution.heat:Heat",
        "HeatConstraint": "sciml.physics.constraints.heat:HeatConstraint",
        "HeterogeneousDiffusionSorption": (
            "sciml.physics.evolution.diffusion_sorption:HeterogeneousDiffusionSorption"
        ),
        "HomotopyPath": "sciml.solvers.flows:HomotopyPath",
        "Implicit": "sciml.solvers.attach:Implicit",
        "JacobianFree": "sciml.solvers.series:JacobianFree",
        "LevenbergMarquardt": "sciml.solvers.levenberg_marquardt:LevenbergMarquardt",
        "Neumann": "sciml.solvers.series:Neumann",
        "Newton": "sciml.solvers.newton:Newton",
        "NewtonKrylov": "sciml.solvers.newton:NewtonKrylov",
        "ODE": "sciml.solvers.ode:ODE",
        "ResidualFlow": "sciml.solvers.flows:ResidualFlow",
        "Phantom": "sciml.solvers.unrolled:Phantom",
        "Reversible": "sciml.solvers.reversible:Reversible",
        "ReversibleIteration": "sciml.solvers.reversible:ReversibleIteration",
        "SharedInverse": "sciml.solvers.shine:SharedInverse",
        "SoftConstraint": "sciml.physics.constraints.penalty:SoftConstraint",
        "VorticityConstraint": "sciml.physics.constraints.vorticity:VorticityConstraint",
        "VorticityNavierStokes": "sciml.physics.evolution.vorticity:VorticityNavierStokes",
    },
}


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
            "an installed plug-in",
            f"If you trust it: from sciml import plugins; plugins.use('{package}'), or "
            f"{plugins.VARIABLE}={package} in the environment",
        )
    found = getattr(importlib.import_module(package), attribute, None)
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
        target: For instance `sciml.networks.mlp.MLP`.
    """
    module, _, attribute = target.rpartition(".")
    found = [name for name, place in CLASSES[kind].items() if place == f"{module}:{attribute}"]
    package = target.partition(".")[0]
    if package in plugins.names():
        cls = getattr(importlib.import_module(module), attribute, None)
        if cls is not None and getattr(importlib.import_module(package), attribute, None) is cls:
            return f"{package}:{attribute}"
    return found[0] if found else None


def _check_types(cls: type, arguments: dict) -> None:
    """Refuse plain arguments of another type than the constructor says: it may only store them.

    Raises:
        PretrainedError: Naming the argument.
    """
    hints = cls.__init__.__annotations__  # as written: nothing is evaluated where a file is read
    for name, value in arguments.items():
        options = [PLAIN.get(option) for option in str(hints.get(name)).split(" | ")]
        if name not in hints or None in options:
            continue
        kind = type(value)
        fits = kind in options or (kind is int and float in options)
        size = LARGEST if "seed" in name else LARGEST_SIZE
        if kind is int and int in options:
            fits &= abs(value) <= size
        elif kind in (int, float):
            fits &= abs(value) <= LARGEST
        if not fits:
            raise PretrainedError(
                f"model.json passes {name}={str(value)[:40]} to {cls.__name__}",
                " or ".join(WORDS[option] for option in options),
            )


def build(kind: str, spec: object) -> object:
    """Return the object described by `{"class": name, "arguments": {...}}`.

    Args:
        kind: A kind of the table.
        spec: The description; arguments are plain numbers, strings and lists, and descriptions of
            the kind "part".

    Raises:
        PretrainedError: If the description is malformed, names a class outside the table, or the
            class refuses the arguments.
    """
    if not isinstance(spec, dict) or set(spec) != {"class", "arguments"}:
        raise PretrainedError(
            f"model.json describes the {kind} as {str(spec)[:80]}",
            'an object with the keys "class" and "arguments"',
        )
    cls, arguments = resolve(kind, spec["class"]), spec["arguments"]
    if not isinstance(arguments, dict):
        raise PretrainedError(
            f"the arguments of {kind} class '{spec['class']}' are {str(arguments)[:80]}",
            "an object of argument names and plain values",
        )
    accepted = inspect.signature(cls).parameters
    for argument in arguments:
        if argument not in accepted:
            raise PretrainedError(
                f"model.json passes '{argument}' to {spec['class']}",
                "an argument of that class",
                did_you_mean(argument, accepted),
            )
    arguments = {
        key: build("part", value) if isinstance(value, dict) and "class" in value else value
        for key, value in arguments.items()
    }
    _check_types(cls, arguments)
    try:
        return cls(**arguments)
    except REFUSALS as error:
        raise PretrainedError(
            f"{spec['class']} refuses its arguments in model.json: {str(error)[:300]}",
            "the arguments it was saved with",
            "Restore model.json from where the folder came from",
        ) from error
