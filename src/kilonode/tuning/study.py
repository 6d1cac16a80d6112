"""Which trial comes next, and what is remembered: one Optuna study, written by one process alone.

The order in which results come in depends on the machine, the trials must not. So the study is told the result of trial
``n - ahead`` right before it is asked for trial ``n``, never earlier, and the sampler is seeded anew for every trial:
what trial n tries is a function of seed, ``ahead`` and the results of trials 0 .. n - ahead alone. Results that came
early wait in the journal. Rules for stopping a trial early are fixed in the same way when it is handed out.

Source
------
Asynchronous successive halving: Li et al. 2020, "A system for massively parallel hyperparameter tuning", MLSys,
algorithm 2; here with the delayed view described above.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from kilonode.errors import UserError, near
from kilonode.records import Json, digest

ATTEMPTS = 3
"""A trial that took its process down so often is recorded as failed."""
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
Sampler = Callable[[int], optuna.samplers.BaseSampler]
SAMPLERS: dict[str, Sampler] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


class _Alone:
    """No lock file: ``alone`` has seen to it, and Optuna's of a killed writer would stop its successor."""

    def acquire(self) -> bool:
        """Always."""
        return True

    def release(self) -> None:
        """Nothing to give back."""


def alone(folder: Path) -> IO[bytes]:
    """A lock on a search, as long as the returned file is open; the kernel takes it back from the dead.

    Raises
    ------
    UserError
        Another process searches in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = (folder / "lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"expected no other search in this folder, got one ({folder}); wait for it") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
            raise
    return held


def journal(path: Path) -> optuna.storages.JournalStorage:
    """The journal of all studies of a search; a last line that was cut off by a kill is dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = JournalFileBackend(str(path), _Alone())  # type: ignore[arg-type] # the base class is private
    return optuna.storages.JournalStorage(backend)


class Study:
    """One search: asked for trials, told their results, the same after a kill.

    Parameters
    ----------
    storage : optuna storage
        Of ``journal``.
    name : str
        Of the study in the journal.
    suggest : callable
        From an Optuna trial to a point of the space.
    identity : dict
        What must be equal for the study to be continued.
    sampler : {"tpe", "gp", "random"}
        Who suggests.
    seed : int
        Of the sampler.
    ahead : int
        How many trials may be on their way; an earlier run's stays.
    higher : bool
        Whether a higher value is better.
    pruning : dict, optional
        ``first`` epochs without judgement, ``factor`` between two rungs; None: every trial runs to its end.

    Raises
    ------
    UserError
        No such sampler; the journal holds a study of something else.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        suggest: Callable[[optuna.trial.Trial], Json],
        identity: Json,
        sampler: str,
        seed: int,
        ahead: int,
        higher: bool,
        pruning: Json | None,
    ) -> None:
        if sampler not in SAMPLERS:
            raise UserError(f"expected a sampler, got {sampler!r} (--sampler); {near(sampler, SAMPLERS)}")
        self.name, self.higher = name, higher
        self._suggest, self._sampler, self._seed, self._pruning = suggest, SAMPLERS[sampler], seed, pruning
        direction: Literal["maximize", "minimize"] = "maximize" if higher else "minimize"
        self._study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        stored, mine = self._study.user_attrs, digest([identity, sampler, seed, pruning])
        if stored.setdefault("identity", mine) != mine:
            raise UserError(
                f"expected to continue the study {name!r}, got one of another space, sampler, seed or data; "
                "choose another --folder, or delete the old one"
            )
        self.ahead = int(stored.get("ahead", ahead))
        if "ahead" not in stored:
            self._study.set_user_attr("identity", mine)
            self._study.set_user_attr("ahead", ahead)
        self._given: set[int] = set()
        # Asked here first: the journal then gets a trial whole, in one line, and never half of its suggestions.
        self._mirror = optuna.create_study(direction=direction)
        self._mirror.add_trials(self.trials)

    @property
    def known(self) -> optuna.study.Study:
        """The study as Optuna knows it, to read from."""
        return self._study

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials in the order they were asked for."""
        return self._study.get_trials(deepcopy=False)

    def next(self, trials: int) -> Json | None:
        """A trial that nobody works on: its number, choice and bars; None if there is none just now."""
        waiting = self._waiting()
        if waiting is None and self.prepare(trials):
            waiting = self._waiting()
        return None if waiting is None else self._hand_out(waiting)

    def _waiting(self) -> FrozenTrial | None:
        """The earliest trial that was asked for and given to nobody."""
        for trial in self.trials:
            if trial.number not in self._given and trial.state == TrialState.RUNNING:
                if "result" not in trial.user_attrs:
                    return trial
                self._given.add(trial.number)
        return None

    def prepare(self, trials: int) -> bool:
        """Ask for one more trial, also before anybody is free for it; whether there was one to ask for."""
        self._tell()
        count = len(self.trials)
        if count >= trials or (count >= self.ahead and not self.trials[count - self.ahead].state.is_finished()):
            return False
        self._mirror.sampler = self._sampler(self._seed * 1_000_003 + count)
        asked = self._mirror.ask()
        attributes = {"choice": self._suggest(asked), "bars": self._bars()}
        params, spaces = asked.params, asked.distributions
        self._study.add_trial(
            optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=spaces, user_attrs=attributes)
        )
        return True

    def _hand_out(self, trial: FrozenTrial) -> Json:
        attempts = trial.user_attrs.get("attempts", 0) + 1
        self._set(trial, "attempts", attempts)
        self._given.add(trial.number)
        choice, bars = trial.user_attrs["choice"], trial.user_attrs["bars"]
        return {
            "study": self.name,
            "number": trial.number,
            "choice": choice,
            "bars": {int(epoch): bar for epoch, bar in bars.items()},
            "hopeless": attempts > ATTEMPTS,
        }

    def keep(self, number: int, result: Json) -> None:
        """Remember the result of a trial; from now on it is never run again."""
        self._set(self.trials[number], "result", result)

    def release(self, number: int) -> None:
        """A trial was stopped, not ended: it may be handed out again, and that does not count against it."""
        trial = self.trials[number]
        self._set(trial, "attempts", trial.user_attrs["attempts"] - 1)

    def _set(self, trial: FrozenTrial, name: str, value: Any) -> None:
        self._study._storage.set_trial_user_attr(trial._trial_id, name, value)

    def _tell(self) -> None:
        """Tell results in the order of trials, and no more of them than the next trial may know."""
        for trial in self.trials[: max(0, len(self.trials) - self.ahead + 1)]:
            if not self._told(trial):
                return

    def _told(self, trial: FrozenTrial) -> bool:
        if trial.state.is_finished():
            return True
        result = trial.user_attrs.get("result")
        if result is None:
            return False
        state = STATES[result["state"]]
        for study in (self._mirror, self._study):
            told = study.get_trials(deepcopy=False)[trial.number]
            if told.state.is_finished():
                continue
            for epoch, value in enumerate(result["values"], start=1):
                if epoch not in told.intermediate_values:
                    study._storage.set_trial_intermediate_value(told._trial_id, epoch, value)
            study.tell(trial.number, result["value"] if state == TrialState.COMPLETE else None, state=state)
        return True

    def finish(self, trials: int) -> bool:
        """Whether so many trials are done; if so, tell what is left."""
        known = self.trials
        if len(known) < trials or any("result" not in trial.user_attrs for trial in known):
            return False
        for trial in known:
            self._told(trial)
        return True

    def _bars(self) -> dict[str, float]:
        """Epoch -> value that a trial must reach there: the best share 1 / factor of those that were told."""
        if self._pruning is None:
            return {}
        epoch, factor, bars = int(self._pruning["first"]), int(self._pruning["factor"]), {}
        told = [trial.intermediate_values for trial in self.trials if trial.state.is_finished()]
        while seen := [values[epoch] for values in told if epoch in values]:
            room = (len(seen) + 1) // factor  # with the trial itself
            if room:
                bars[str(epoch)] = sorted(seen, reverse=self.higher)[room - 1]
            epoch *= factor
        return bars

    def best(self) -> FrozenTrial | None:
        """The best complete trial, the earliest of equals."""
        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        sign = -1 if self.higher else 1
        return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def missed(values: list[float], bars: dict[int, float], higher: bool) -> bool:
    """Whether a trial with these values of epochs 1, 2, ... falls short of a bar it has come to."""
    return any(
        len(values) >= epoch and (values[epoch - 1] < bar if higher else values[epoch - 1] > bar)
        for epoch, bar in bars.items()
    )
