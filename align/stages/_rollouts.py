"""What the stages do alike that learn from their own replies: open policy, critic and prompts, then train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from align.alarms.watch import counted
from align.distributed.device import device
from align.distributed.world import led
from align.errors import DataError, EmptySplit, ModelError
from align.evaluation.compare import Answers, sample_rows
from align.evaluation.policies import answers, scored
from align.evaluation.statistics import mean, paired_difference
from align.generation.server import open_server
from align.models.one_base import Apart, new_scalar, saved_scalar
from align.models.policy import Policy, save_policy
from align.models.save import plain_model
from align.models.scalar import ScalarModel, load_scalar
from align.models.settings import LOW_RANK, ModelSettings
from align.models.source import find_model
from align.packing.forward import Forward
from align.pairs.prepare import prepare
from align.pairs.prompts import read_prompts
from align.pairs.read import texts
from align.pairs.store import TokenStore
from align.ppo.actor import Actor, LinearValue, Together, head_width
from align.ppo.asking import Asking, Questions
from align.ppo.course import Iterations
from align.ppo.estimate import first_memory
from align.ppo.served import ServedRollouts
from align.ppo.settings import CriticSettings
from align.protocols import Scorer
from align.report.console import say
from align.report.figures import training_figure
from align.report.files import write_samples
from align.report.terminal import print_summary
from align.run import Run
from align.stages._common import input_hashes, open_policy, open_reward, ready
from align.stages._recipe import RolloutStage, SamplingStage
from align.tensors import TokenExample
from align.tracking.samples import sample_table
from align.training.loop import train
from align.types import Demonstration, Prompt, Result


def optimise(run: Run, stage: RolloutStage) -> None:
    """Trains a policy on its own replies; writes ``model/``, and what unseen prompts gain to results.json."""
    policy = open_policy(run, stage.model, stage.adapter, stage.dataset)
    questions = read_questions(run, stage, policy)
    scorer = open_reward(run, stage.reward, policy)
    replies = stage.recipe.rollout.replies
    forward = ready(policy, stage.training)
    actor = _actor(run, stage, policy, forward)
    with opened_server(run, stage, policy) as served:
        course = Iterations(
            asking=Asking(policy, scorer, questions, stage.sampling, replies, run.seed, served),
            actor=actor,
            reference=opened_reference(stage, policy, forward) if stage.recipe.asks_reference else None,
            demonstrations=_imitated(run, stage, policy),
            recipe=stage.recipe,
            training=stage.training,
            memory=first_memory(stage.recipe.kl),
        )
        summary = train(
            run=run,
            settings=replace(stage.training, length_window=1),  # batches are of prompts: nothing is padded
            model=actor.model,
            course=course,
            alarms=stage.alarms,
            device=device(),
            deepspeed=stage.deepspeed,
            fingerprint=input_hashes(run),
        )
    led(lambda: save_policy(policy, run.directory / "model"))
    run.offer_model()
    raised = counted(run.stage_name, summary.alarms, summary.watched)
    report(run, stage, policy, scorer, raised)


@contextmanager
def opened_server(run: Run, stage: SamplingStage, policy: Policy) -> Iterator[ServedRollouts | None]:
    """The server that replies come from; None where the policy writes them here.

    Raises:
        ServerError: nothing listens there, or it refuses the key.
    """
    if stage.server is None:
        yield None
        return
    run.note(servers={"rollouts": f"{stage.server.url} {stage.server.model}"})
    with open_server(stage.server) as server:
        yield ServedRollouts(server, stage.serving, policy, run.directory)


def _actor(run: Run, stage: RolloutStage, policy: Policy, forward: Forward) -> Actor:
    """The policy with its critic, as the recipe asks."""
    critic, temperature = stage.recipe.critic, stage.sampling.temperature
    if critic is None:
        return Actor(Together(policy.model, None), forward, temperature)
    if critic.kind == "shared":
        head = LinearValue(head_width(plain_model(policy.model))).to(policy.device)
        return Actor(Together(policy.model, head), forward, temperature, value_head=head)
    scalar = _critic(run, stage, policy, critic)
    values = ready(scalar, stage.training)
    together = Together(policy.model, scalar.model)
    return Actor(together, forward, temperature, critic=values.values, critic_work=values.work)


def _critic(run: Run, stage: RolloutStage, policy: Policy, critic: CriticSettings) -> ScalarModel:
    """A critic's own network, from a reward model or from where the policy starts.

    Under low-rank updates it is an adapter and a head on the policy's frozen weights, where it starts from
    them.

    Raises:
        ModelError: it reads tokens in another way than the policy writes them.
    """
    start = stage.model if critic.path is None else replace(stage.model, path=critic.path, scratch=None)
    run.note_input("critic", start.path)
    scalar = None
    if stage.adapter.kind in LOW_RANK:
        try:
            scalar = _critic_on_base(run, stage, policy, start)
            say("the critic is an adapter and a head on the policy's frozen weights")
        except Apart as why:
            say(f"note: the critic is a whole network beside the policy's weights, because {why}")
    if scalar is None:
        scalar = load_scalar(
            start, stage.adapter, texts=lambda: texts(stage.dataset), seed=run.seed, device=policy.device
        )
    if scalar.chat.fingerprint() != policy.chat.fingerprint():
        raise ModelError(
            f"critic.path={critic.path} has another tokenizer than the policy, and a critic reads the "
            f"policy's own tokens: start it from a model of the policy's family, or set critic.path=null"
        )
    return scalar


def _critic_on_base(run: Run, stage: RolloutStage, policy: Policy, start: ModelSettings) -> ScalarModel:
    """A new one where policy and critic start from one model, else the reward model at its path.

    Raises:
        Apart: it cannot stand on the policy's weights.
    """
    if start.path is None or (stage.model.path and find_model(start.path) == find_model(stage.model.path)):
        return new_scalar(policy, stage.adapter, run.seed)
    return saved_scalar(policy, start.path, trainable=True, dropout=stage.adapter.dropout)


def opened_reference(
    stage: SamplingStage, policy: Policy, forward: Forward
) -> Callable[[], AbstractContextManager[Forward]]:
    """Opens the policy as it was before training; its kernels are chosen once."""
    opened: dict[int, Forward] = {}

    @contextmanager
    def open_reference() -> Iterator[Forward]:
        with policy.reference() as model:
            if model is policy.model:
                yield forward
                return
            if id(model) not in opened:
                opened[id(model)] = ready(policy, stage.training, model)
            yield opened[id(model)]

    return open_reference


def _imitated(
    run: Run, stage: RolloutStage, policy: Policy
) -> TokenStore[TokenExample, Demonstration] | None:
    """What PPO-ptx imitates beside the rewards: the dataset's own replies."""
    if not stage.recipe.objective.ptx_coef:
        return None
    length = stage.model.max_length
    where, cache = run.directory, run.cache
    return led(
        lambda: prepare(stage.dataset, policy.chat, length, where, "demonstrations", cache=cache).train
    )


def report(run: Run, stage: SamplingStage, policy: Policy, scorer: Scorer, raised: Sequence[Result]) -> None:
    """The policy beside the one it started from, on the same unseen prompts, as it was trained: at the
    temperature of the rollouts and by the reward that was optimised."""
    led(lambda: training_figure(run.directory, run.directory / "figures" / "training.png"))
    unseen = led(lambda: _unseen(run, stage))
    if not unseen:
        say("note: the test split is empty, nothing is measured on unseen prompts; dataset.test_fraction")
        run.write_results(raised)
        return
    with policy.reference() as model:
        start = replace(policy, model=model)
        before = scored(answers("start", start, unseen, stage.sampling, run.seed), unseen, scorer)
    after = scored(answers(run.stage_name, policy, unseen, stage.sampling, run.seed), unseen, scorer)
    rows = sample_rows(unseen, (before, after), "reward")
    write_samples(run.directory / "samples.jsonl", rows)
    run.tracker.table("samples", sample_table(rows))
    results = [*_gained(run.stage_name, before, after, unseen), *raised]
    run.write_results(results)
    if not run.is_step:
        places = {"model": run.directory / "model", "results": run.directory / "results.json"}
        print_summary(results, rows, places, shown=stage.evaluation.shown)


def _unseen(run: Run, stage: SamplingStage) -> list[Prompt]:
    """The prompts of the test split, none where it is empty."""
    try:
        return read_prompts(stage.dataset, "test", run.directory, stage.evaluation.prompts).prompts
    except EmptySplit:
        return []


def _gained(stage: str, before: Answers, after: Answers, prompts: Sequence[Prompt]) -> list[Result]:
    """Scores before and after, and their difference prompt by prompt."""
    assert before.scores is not None, "unscored answers"
    assert after.scores is not None, "unscored answers"
    by_prompt = None if len(set(prompts)) == len(prompts) else list(prompts)
    return [
        mean(f"{stage}/score_before", before.scores, by_prompt),
        mean(f"{stage}/score_after", after.scores, by_prompt),
        paired_difference(f"{stage}/score_gained", after.scores, before.scores, by_prompt),
    ]


def read_questions(run: Run, stage: SamplingStage, policy: Policy) -> Questions:
    """The distinct prompts of the training split, cut or dropped as ``dataset.too_long`` says."""
    found = led(lambda: read_prompts(stage.dataset, "train", run.directory))
    run.note_input("data", getattr(stage.dataset.source, "path", None), found.fingerprint)
    room = stage.model.max_length - stage.sampling.max_new_tokens
    kept: list[Prompt] = []
    ids, long = [], 0
    for prompt in found.prompts:
        own = policy.chat.prompt_ids(prompt)
        long += len(own) > room
        if len(own) > room and stage.dataset.too_long == "error":
            raise DataError(
                f"a prompt has {len(own)} tokens, and beside sampling.max_new_tokens="
                f"{stage.sampling.max_new_tokens} there is room for {room}: raise model.max_length, "
                f"or set dataset.too_long=truncate_left or drop"
            )
        if len(own) <= room or stage.dataset.too_long == "truncate_left":
            kept.append(prompt)
            ids.append(own[-room:])
    if long:
        done = "lost their oldest tokens" if stage.dataset.too_long == "truncate_left" else "were left out"
        say(f"{long:,} of {len(found.prompts):,} prompts have more than {room} tokens and {done}")
    if not kept:
        raise DataError(f"no prompt has {room} tokens or fewer: raise model.max_length")
    return Questions(kept, ids)
