"""The pretend accelerator refuses what an accelerator refuses, and counts what it waits for."""

import copy
import io

import pytest
import torch

from sciml.testing.pretend import Pretend
from sciml.testing.ranks import run_ranks


def test_devices_are_not_mixed():
    with Pretend():
        x = torch.ones(3, device="pretend")
        with pytest.raises(RuntimeError, match="at least two devices"):
            x + torch.ones(3)
        assert torch.equal((x + 1.0).cpu(), torch.full((3,), 2.0))  # numbers go anywhere
        assert (x * torch.tensor(2.0)).device.type == "pretend"


def test_random_numbers_want_a_generator_of_their_device():
    with Pretend():
        generator = torch.Generator("pretend").manual_seed(0)
        here = torch.rand(4, device="pretend", generator=generator)
        assert torch.equal(here.cpu(), torch.rand(4, generator=torch.Generator().manual_seed(0)))
        with pytest.raises(RuntimeError, match="'pretend' device type for generator"):
            torch.rand(4, device="pretend", generator=torch.Generator())
        with pytest.raises(RuntimeError, match="'cpu' device type for generator"):
            torch.rand(4, generator=generator)


def test_waits_are_counted():
    with Pretend() as device:
        x = torch.arange(4.0, device="pretend")
        assert not device.waits
        assert float(x.sum()) == 6.0
        assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
        x[x > 1]
        x.cpu()
        assert dict(device.waits) == {"item": 1, "tolist": 1, "mask": 1, "cpu": 1}
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()


def test_networks_train_copy_and_are_saved():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    twin, x = copy.deepcopy(network), torch.rand(5, 3)
    with Pretend():
        network.to("pretend")
        for one, batch in ((network, x.to("pretend")), (twin, x)):
            optimizer = torch.optim.Adam(one.parameters(), lr=0.1)
            one(batch).square().mean().backward()
            optimizer.step()
        assert next(copy.deepcopy(network).parameters()).device.type == "pretend"
        file = io.BytesIO()
        torch.save(network.state_dict(), file)
        file.seek(0)
        for name, weight in torch.load(file, weights_only=True).items():
            torch.testing.assert_close(weight, twin.state_dict()[name], rtol=1e-6, atol=1e-7)


def _backward(rank):
    x = torch.ones(2, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_ranks_differentiate_although_this_process_has_threads_of_a_device():
    _backward(0)
    run_ranks(_backward, (), 2)
