"""``stm-skeletons ablate``: trains and evaluates recipes over several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stm_skeletons.errors import RecipeError
from training.ablation.paper_tables import Measured, write_tables
from training.evaluation.candidates import candidate_from_weights, evaluate_candidates
from training.evaluation.conditions import Conditions
from training.evaluation.evaluation import Evaluation
from training.evaluation.report import Report
from training.evaluation.report_files import write_report
from training.hardware import Hardware
from training.recipe import Recipe, load_recipe
from training.recipe_run import run_folder, run_recipe
from training.train import LoggingOptions


@dataclass(frozen=True)
class Plan:
    """Recipes to train, and how to evaluate them."""

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    data: Mapping[str, Path]
    """Folder by kind of data. Every recipe is evaluated on the validation part of each."""
    init: Mapping[str, Path]
    """Starting weights by variant; variants without an entry start from random weights."""
    conditions: Conditions


def ablate(
    plan: Plan,
    out: Path,
    hardware: Hardware = Hardware(),  # noqa: B008 - frozen
    logging_options: LoggingOptions = LoggingOptions(),  # noqa: B008 - frozen
    say: Callable[[str], None] = print,
) -> Path:
    """Train and evaluate the recipes, and write the tables. Finished runs are reused; stopped runs continue.

    Writes into ``out``: runs/, a report for each kind of data (its recall_over_time.png is the paper's Figure 7),
    tables.md and tables.json. Returns the path of tables.md.

    Raises the errors of run_recipe and evaluate_candidates.
    """
    recipes = {name: load_recipe(name) for name in plan.recipes}
    if len({Path(name).stem for name in recipes}) < len(plan.recipes):
        raise RecipeError("a recipe is listed twice, or two files have the same name; every name must differ")
    measured = []
    for name, recipe in recipes.items():
        by_kind: dict[str, list[Report]] = {}
        for seed in plan.seeds:
            weights = _trained(name, recipe, seed, plan, out, hardware, logging_options, say)
            candidate = candidate_from_weights(weights, threads=hardware.cpu_threads)
            for kind, root in plan.data.items():
                report = evaluate_candidates([candidate], kind, root, plan.conditions, say)
                by_kind.setdefault(kind, []).append(report)
        measured.append(Measured(Path(name).stem, recipe, by_kind))
        say(f"{name}: evaluated")
    for kind in plan.data:
        write_report(_over_seeds(measured, kind), out / kind)
    return write_tables(measured, plan.seeds, plan.conditions, out)


def _trained(
    name: str,
    recipe: Recipe,
    seed: int,
    plan: Plan,
    out: Path,
    hardware: Hardware,
    logging_options: LoggingOptions,
    say: Callable[[str], None],
) -> Path:
    weights = run_folder(out / "runs", name, seed) / "weights.safetensors"
    if not weights.is_file():
        say(f"{name}, seed {seed}: {recipe.title}")
        init = plan.init.get(recipe.model.variant)
        result = run_recipe(name, plan.data, out / "runs", seed, init, True, hardware, logging_options, say)
        if result.interrupted:
            raise KeyboardInterrupt
    return weights


def _over_seeds(measured: Sequence[Measured], kind: str) -> Report:
    """One report for a kind of data, with each recipe's counts summed over the seeds."""
    merged: dict[str, Evaluation] = {}
    for entry in measured:
        first, *others = (next(iter(report.evaluations.values())) for report in entry.reports[kind])
        for other in others:
            first = first.merged(other)
        merged[entry.name] = first
    example = measured[0].reports[kind][0]
    return Report(f"{len(measured)} recipes on {kind}", example.data, merged, example.pseudo)
