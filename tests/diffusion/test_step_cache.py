"""Inner blocks that are left out: when, for which rows of a call, and that a picture is not another's."""

import pytest
import torch
from torch import Tensor

import tiny
from sfumato.diffusion.cache_rules import Accumulated, EveryNth, FirstBlock, parse_rule
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser, Job, Step, with_step_cache
from sfumato.diffusion.guidance import cfg, network_guide
from sfumato.diffusion.noise_schedule import NoiseTable, training_sigmas
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.diffusion.step_cache import Memory, Recall
from sfumato.errors import SfumatoError
from sfumato.nets.controlled import Controlled
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.seamless import seamless
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, NoiseSchedule, UNetConfig

TABLE = NoiseTable(training_sigmas(NoiseSchedule()))
UNET = UNetConfig(channels=(32, 64), blocks=1, depth=(1, 1), context_dim=24, heads=2)
TRANSFORMER = MMDiTConfig(
    in_channels=4, hidden=32, heads=2, depth=3, context_dim=24, pooled_dim=16, positions=8, patch=2
)
RULES = {"first-block:0.1": FirstBlock(0.1), "teacache:0.25": Accumulated(0.25), "deepcache:3": EveryNth(3)}


def network(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    return tiny.randomise(UNet(UNET) if kind == "unet" else MMDiT(TRANSFORMER))


def cond(value: float, rows: int = 1) -> Cond:
    generator = torch.Generator().manual_seed(int(value))
    return Cond(torch.randn(rows, 5, 24, generator=generator), torch.randn(rows, 16, generator=generator))


def counted(net: torch.nn.Module) -> list[int]:
    """The numbers of rows of the runs of the inner blocks, as they come."""
    inner = net.mid_block if isinstance(net, UNet) else net.transformer_blocks[1]
    rows: list[int] = []
    inner.register_forward_hook(lambda module, given, result: rows.append(len(given[0])))
    return rows


def job(denoiser: Denoiser, seed: int, rule: object = None, steps: int = 6, sampler: str = "euler") -> Job:
    sigmas = sigma_list("karras", TABLE, steps)
    stream = NoiseStream(seed, (1, 4, 8, 8))
    guide = cfg(network_guide(denoiser, cond(seed)), network_guide(denoiser, cond(99)), 2.0)
    made = SAMPLERS[sampler].run(guide, stream.normal() * sigmas[0], sigmas, EXPLODING, stream)
    return made if rule is None else with_step_cache(made, rule)


@pytest.mark.parametrize(("text", "rule"), RULES.items())
def test_a_rule_is_said_by_a_word_and_a_number(text: str, rule: object) -> None:
    assert parse_rule(text) == rule == parse_rule(text.replace(":", "="))


@pytest.mark.parametrize(
    "text", ["deepcache", "deepcache:1", "deepcache:2.5", "teacache:0", "first-block:11", "x:1", 3]
)
def test_other_texts_are_refused_with_what_to_give(text: object) -> None:
    with pytest.raises(SfumatoError, match=r"give deepcache with a whole number from 2, such as deepcache:3"):
        parse_rule(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
@torch.no_grad()
def test_a_first_question_is_answered_as_without_memory(kind: str) -> None:
    net = network(kind)
    x, t, given = torch.randn(2, 4, 8, 8), torch.tensor([500.0, 20.0]), cond(3, 2)
    plain = net(x, t, given)
    for rule in RULES.values():
        memories = [Memory(rule), None]
        assert torch.allclose(net(x, t, given, recall=Recall(memories)), plain, atol=1e-5)


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
@torch.no_grad()
def test_only_the_rows_that_must_run_do(kind: str) -> None:
    """The second row is the same as before, so its answer is as well; the first is another picture, and runs."""
    net = network(kind)
    rows, memories = counted(net), [Memory(FirstBlock(0.05)), Memory(FirstBlock(0.05)), None]
    x, t, given = torch.randn(3, 4, 8, 8), torch.tensor([500.0, 20.0, 60.0]), cond(3, 3)
    plain = net(x, t, given, recall=Recall(memories))
    other = torch.cat([torch.randn(1, 4, 8, 8), x[1:]])
    again = net(other, t, given, recall=Recall(memories))
    assert rows == [3, 2]
    assert torch.allclose(again[1:], plain[1:], atol=1e-5)
    assert torch.allclose(again, net(other, t, given), atol=1e-5)


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
def test_every_third_question_runs(kind: str, outcomes) -> None:
    net = network(kind)
    rows = counted(net)
    outcomes([job(Denoiser(net, "eps", TABLE), 1, EveryNth(3), steps=7)])
    assert rows == [2, 2, 2]


def test_small_thresholds_change_nothing_and_larger_ones_run_less(outcomes) -> None:
    net = network("mmdit")
    rows, runs = counted(net), {}
    plain = outcomes([job(Denoiser(net, "eps", TABLE), 1, steps=12)])[0]
    assert isinstance(plain, Tensor)
    for kind in (FirstBlock, Accumulated):
        for threshold in (1e-9, 0.3, 5.0):
            rows.clear()
            result = outcomes([job(Denoiser(net, "eps", TABLE), 1, kind(threshold), steps=12)])[0]
            runs[kind, threshold] = sum(rows)
            assert (threshold < 1e-6) == torch.allclose(result, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
        assert runs[kind, 1e-9] == 24 > runs[kind, 0.3] > runs[kind, 5.0] >= 2
    assert runs[Accumulated, 0.3] > runs[FirstBlock, 0.3], "differences that add up are larger than the last one"


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
def test_jobs_that_share_calls_come_out_as_if_alone(kind: str, outcomes) -> None:
    """Rules and step counts mixed, one job without a cache: each keeps what is its own."""
    denoiser = Denoiser(network(kind), "eps", TABLE)
    mixed = [(1, EveryNth(2), 6), (2, FirstBlock(0.3), 8), (3, None, 5), (4, Accumulated(0.4), 7)]
    alone = [outcomes([job(denoiser, seed, rule, steps)])[0] for seed, rule, steps in mixed]
    together = outcomes([job(denoiser, seed, rule, steps) for seed, rule, steps in mixed], max_rows=100)
    for number, x in enumerate(alone):
        assert torch.allclose(together[number], x, rtol=1e-4, atol=1e-5 * float(x.abs().max()))


def test_questions_of_one_conditioning_at_once_have_their_own_memories(outcomes) -> None:
    """As those of the windows of a large picture: each place in their order has one."""
    net = network("unet")
    rows, one = counted(net), cond(1)
    guide, denoiser = None, Denoiser(net, "eps", TABLE)
    guide = network_guide(denoiser, one)
    windows = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(2)]

    def windowed() -> Job:
        answers = []
        for _ in range(2):
            asked = [next(guide(x, 1.0))[0] for x in windows]
            answers.append((yield asked))
        return torch.cat(answers[0] + answers[1])

    first, second = outcomes([with_step_cache(windowed(), EveryNth(5))])[0].chunk(2)
    assert rows == [2]
    assert torch.allclose(first, second, atol=1e-5) and not torch.allclose(first[:1], first[1:], atol=1e-2)


def test_steps_pass_through_and_a_failure_comes_out() -> None:
    def failing() -> Job:
        yield Step(0, 1, 1.0, torch.ones(1), torch.ones(1))
        raise RuntimeError("broken")

    cached = with_step_cache(failing(), EveryNth(2))
    assert isinstance(next(cached), Step)
    with pytest.raises(RuntimeError, match="broken"):
        next(cached)


@torch.no_grad()
def test_a_transformer_that_tiles_remembers_its_rolled_copies_apart() -> None:
    net = network("mmdit")
    wrapped, rows, memory = seamless(net, True, True), counted(net), Memory(EveryNth(2))
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    plain = wrapped(x, t, cond(1))
    for _ in range(2):
        assert torch.allclose(wrapped(x, t, cond(1), recall=Recall([memory])), plain, atol=1e-5)
    assert rows == [4, 4]


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
@torch.no_grad()
def test_a_rule_that_counts_reads_no_numbers_of_the_network(kind: str) -> None:
    net, memory = network(kind).to("meta"), Memory(EveryNth(2))
    given = Cond(torch.empty(1, 5, 24, device="meta"), torch.empty(1, 16, device="meta"))
    for _ in range(3):
        net(torch.empty(1, 4, 8, 8, device="meta"), torch.empty(1, device="meta"), given, recall=Recall([memory]))


@torch.no_grad()
def test_a_controlled_network_hands_the_memories_on() -> None:
    net = network("unet")
    wrapped, rows, memory = Controlled(net, []), counted(net), Memory(EveryNth(2))
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    for _ in range(3):
        wrapped(x, t, cond(1), recall=Recall([memory]))
    assert rows == [1, 1]
