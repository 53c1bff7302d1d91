"""Small files of fields, one per layout that people bring; written by tests and by the docs.

    python -m sciml.testing.small_files FOLDER

writes them all, with numbers that mean nothing but are the same every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def smooth(count: int, *size: int, seed: int = 0) -> np.ndarray:
    """Return periodic random fields `(count, *size)` of a few waves."""
    draw = np.random.default_rng(seed)
    x = np.meshgrid(*(np.arange(n) / n for n in size), indexing="ij")
    found = np.zeros((count, *size))
    for _ in range(3 * len(size)):
        k = draw.integers(-2, 3, len(size))
        phase = 2 * np.pi * sum(k[i] * x[i] for i in range(len(size)))
        turn = draw.uniform(0, 2 * np.pi, (count, *[1] * len(size)))
        found += draw.normal(size=(count, *[1] * len(size))) * np.cos(phase + turn)
    return found


def smoothed(a: np.ndarray) -> np.ndarray:
    """Return the mean of every value and its neighbours: an operator to learn."""
    axes = range(1, a.ndim)
    return sum(np.roll(a, s, k) for k in axes for s in (-1, 0, 1)) / (3 * len(axes))


def pairs(path: Path, count: int = 24, n: int = 16, dim: int = 2, **more: np.ndarray) -> Path:
    """Write an npz file of inputs x and outputs y."""
    x = smooth(count, *[n] * dim).astype(np.float32)
    np.savez(path, x=x, y=smoothed(x), **more)
    return path


def trajectories(path: Path, count: int = 16, times: int = 6, n: int = 16) -> Path:
    """Write an npz file of trajectories u (N, T, X): waves that travel and decay."""
    x, t = np.arange(n) / n, np.arange(times) * 0.1
    draw = np.random.default_rng(1)
    turn, size = draw.uniform(0, 2 * np.pi, (2, count, 3, 1, 1)), draw.normal(size=(count, 3, 1, 1))
    k = np.arange(1, 4).reshape(1, 3, 1, 1)
    u = size * np.cos(2 * np.pi * k * (x - t[:, None]) + turn[0]) * np.exp(-0.2 * k * t[:, None])
    np.savez(path, u=u.sum(1), t=t)
    return path


def matlab(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write `a` (N, X, Y) and `u` (N, X, Y, T), version 5, as the Navier-Stokes files of FNO."""
    from scipy.io import savemat

    a, u = smooth(6, 8, 8), smooth(6, 8, 8, 5, seed=1)
    savemat(path, {"a": a, "u": u, "t": np.arange(5.0)[None]})
    return a, u


def matlab73(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write the same as version 7.3 does: HDF5 with all axes reversed."""
    import h5py

    a, u = smooth(6, 8, 8), smooth(6, 8, 8, 5, seed=1)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["a"], file["u"] = a.T, u.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return a, u


def pdebench_tensor(path: Path) -> np.ndarray:
    """Write `tensor` (N, T, X) with one time more than T."""
    import h5py

    u = smooth(10, 6, 16)
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"] = u, (np.arange(16) + 0.5) / 16
        file["t-coordinate"] = np.arange(7) * 0.01
        file.attrs["beta"] = 0.1
    return u


def pdebench_compressible(path: Path) -> dict[str, np.ndarray]:
    """Write density, pressure and velocities (N, T, X, Y)."""
    import h5py

    held = {
        n: smooth(4, 5, 8, 8, seed=k) for k, n in enumerate(("density", "pressure", "Vx", "Vy"))
    }
    with h5py.File(path, "w") as file:
        for name, values in held.items():
            file[name] = values
        for axis in "xy":
            file[f"{axis}-coordinate"] = (np.arange(8) + 0.5) / 8
        file["t-coordinate"] = np.arange(6) * 0.1
        file.attrs["eta"] = 0.01
    return held


def pdebench_darcy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write nu (N, X, Y) and tensor (N, 1, X, Y)."""
    import h5py

    a, u = smooth(10, 8, 8), smooth(10, 1, 8, 8, seed=1)
    with h5py.File(path, "w") as file:
        file["nu"], file["tensor"] = a, u
        for axis in "xy":
            file[f"{axis}-coordinate"] = (np.arange(8) + 0.5) / 8
        file.attrs["beta"] = 1.0
    return a, u


def pdebench_grouped(path: Path) -> np.ndarray:
    """Write groups 0000, 0002, ... of data (T, X, V): numbers are seeds, with gaps."""
    import h5py

    u = smooth(10, 5, 16, 2)
    with h5py.File(path, "w") as file:
        for i, values in enumerate(u):
            group = file.create_group(f"{2 * i:04d}")
            group["data"], group["grid/x"] = values, np.arange(16) / 16
            group["grid/t"] = np.arange(5) * 0.5
            group.attrs["config"] = "sim: {D: 1e-3}"
    return u


def pdebench_incompressible(path: Path) -> dict[str, np.ndarray]:
    """Write velocity, particles and force; the last two of six frames were never written."""
    import h5py

    held = {"velocity": smooth(3, 6, 8, 8, 2), "particles": smooth(3, 6, 8, 8, 1, seed=1)}
    for values in held.values():
        values[:, 4:] = 0
    held["force"] = smooth(3, 8, 8, 2, seed=2)
    with h5py.File(path, "w") as file:
        for name, values in held.items():
            file[name] = values
        file["t"] = np.tile(np.arange(6) * 0.1, (3, 1))
        file.attrs["latestIndex"] = 3
    return held


def well(path: Path) -> dict[str, np.ndarray]:
    """Write a field of each rank; some without axes of samples, time or y."""
    import h5py

    n, t, x, y = 3, 4, 8, 6
    held = {
        "density": smooth(n, t, x, y),
        "mask": smooth(1, x, y)[0],
        "wind": smooth(1, t, x)[0],
        "velocity": smooth(n, t, x, y, 2, seed=1),
        "stress": smooth(n, t, x, y, 2, 2, seed=2),
    }
    varying = {"density": (1, 1, (1, 1)), "mask": (0, 0, (1, 1)), "wind": (0, 1, (1, 0)),
               "velocity": (1, 1, (1, 1)), "stress": (1, 1, (1, 1))}  # fmt: skip
    orders = {0: ["density", "mask", "wind"], 1: ["velocity"], 2: ["stress"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["n_trajectories"] = n
        dims = file.create_group("dimensions")
        dims.attrs["spatial_dims"] = ["x", "y"]
        dims["x"], dims["y"], dims["time"] = np.arange(x) / x, np.arange(y) / y, np.arange(t) * 0.1
        for order, names in orders.items():
            group = file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = names
            for name in names:
                node = group.create_dataset(name, data=held[name])
                sample, time, dim = varying[name]
                node.attrs["sample_varying"], node.attrs["time_varying"] = bool(sample), bool(time)
                node.attrs["dim_varying"] = np.array(dim, dtype=bool)
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["Re"]
        scalars["Re"] = np.array([1.0, 2.0, 3.0])
        scalars["Re"].attrs["sample_varying"] = True
        scalars["Re"].attrs["time_varying"] = False
        wall = file.create_group("boundary_conditions/x_periodic")
        wall.attrs["bc_type"], wall.attrs["associated_dims"] = "PERIODIC", ["x"]
    return held


def netcdf3(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write a classic NetCDF file with named dimensions and units."""
    from scipy.io import netcdf_file

    a, u = smooth(5, 8, 6), smooth(5, 4, 8, 6, seed=1)
    with netcdf_file(path, "w") as file:
        for name, size in (("sample", 5), ("time", 4), ("lon", 8), ("lat", 6)):
            file.createDimension(name, size)
        for name in ("time", "lon", "lat"):
            v = file.createVariable(name, "f8", (name,))
            v[:] = np.arange(v.shape[0])
        v = file.createVariable("source", "f8", ("sample", "lon", "lat"))
        v[:], v.units = a, "W/m^2"
        v = file.createVariable("target", "f8", ("sample", "time", "lon", "lat"))
        v[:], v.units = u, "K"
    return a, u


def clouds(path: Path, count: int = 40) -> list[dict[str, np.ndarray]]:
    """Write a torch list of samples: points x (P, 2) of ellipses, source f (P,), field u (P,)."""
    import torch

    draw, made = np.random.default_rng(2), []
    for _ in range(count):
        n, axes = draw.integers(90, 150), draw.uniform(0.6, 1.2, 2)
        radius, turn = np.sqrt(draw.uniform(size=n)), draw.uniform(0, 2 * np.pi, n)
        x = axes * np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
        f = np.full(n, draw.uniform(0.5, 2))  # -lap u = f on the ellipse, zero on its edge
        u = f * (1 - radius**2) / (2 * (axes**-2.0).sum())
        made.append({"x": x, "f": f, "u": u})
    torch.save([{k: torch.tensor(v).float() for k, v in held.items()} for held in made], path)
    return made


def torch_pairs(path: Path) -> None:
    """Write a dictionary of tensors, as the neuraloperator library has them."""
    import torch

    x = torch.tensor(smooth(24, 16, 16)) > 0
    torch.save({"x": x, "y": torch.tensor(smoothed(x.numpy().astype(np.float32)))}, path)


def table(path: Path) -> None:
    """Write a table of 40 samples: x0 to x15, and y0 to y15."""
    x = smooth(40, 16)
    rows = np.concatenate([x, smoothed(x)], 1)
    names = [f"{a}{i}" for a in "xy" for i in range(16)]
    np.savetxt(path, rows, delimiter=",", header=",".join(names), comments="", fmt="%.7g")


def one_array_each(folder: Path) -> None:
    """Write a folder with x.npy and y.npy."""
    folder.mkdir(exist_ok=True)
    x = smooth(40, 16)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", smoothed(x))


def write_all(folder: Path) -> None:
    """Write one file per layout into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs(folder / "pairs.npz", count=200)
    trajectories(folder / "trajectories.npz", count=200, times=11)
    for name, write in {
        "fno.mat": matlab, "fno73.mat": matlab73, "advection.hdf5": pdebench_tensor,
        "compressible.hdf5": pdebench_compressible, "darcy.hdf5": pdebench_darcy,
        "reaction.h5": pdebench_grouped, "incompressible.h5": pdebench_incompressible,
        "well/data/train/part.hdf5": well, "climate.nc": netcdf3, "clouds.pt": clouds,
        "tensors.pt": torch_pairs, "table.csv": table, "arrays": one_array_each,
    }.items():  # fmt: skip
        write(folder / name)


def main() -> None:
    """Write the files into the folder that is named."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m sciml.testing.small_files FOLDER")
    write_all(Path(sys.argv[1]))
    print(f"small files in {sys.argv[1]}")


if __name__ == "__main__":
    main()
