"""Which specs cannot be taken because of other files: what they depend on is not there, or leads back to them.

Rule: judged are all files together, whatever the order in which they were read. Of those that do not go together the
edited ones are refused first, so that what is in force and was not touched stays beyond reproach where it can.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath

from reconciler.core.needs import Dependency, unmet_names
from reconciler.core.spec import SetSpec
from reconciler.sources.loading import Problem
from reconciler.sources.verdict import Rejection

Needs = Mapping[str, Iterable[Dependency]]
"""What each set depends on."""

BAD_DEPENDENCY = "BadDependency"


def unmet(wanted: Needs, in_force: Needs, known: Collection[str] = ()) -> dict[str, str]:
    """The sets that cannot be taken as they are wanted, each with what is wrong and what to do.

    `in_force` is what each falls back to; one that is wanted just as it is in force stays whatever it lacks. Of the
    `known` names there is a file at least.
    """
    if not any(wanted.values()):
        return {}
    needs, problems = dict(wanted), dict[str, str]()
    while True:
        found = {name: text for name, text in unmet_names(needs).items() if name not in problems}
        edited = [name for name in found if wanted[name] != in_force.get(name)]
        problems |= {
            name: _explained(text, name, needs, {*wanted, *known})
            for name, text in found.items()
            if name in edited or not edited
        }
        if not edited:
            return problems
        for name in edited:
            if name in in_force:
                needs[name] = in_force[name]
            else:
                del needs[name]


def rejection_of(file: str, message: str) -> Rejection:
    """The verdict on the file of a set that cannot be taken because of others."""
    return Rejection(file, BAD_DEPENDENCY, (str(Problem(PurePath(file).name, "depends_on", message)),))


def unmet_files(
    specs: Mapping[str, SetSpec], files: Mapping[str, str], in_force: Mapping[str, SetSpec] | None = None
) -> list[tuple[str, Rejection]]:
    """The sets that cannot be taken where these specs are all there are, each with the verdict on its file.

    `files` are the paths of all files by name, also of those that are bad.
    """
    before = {name: spec.depends_on for name, spec in (in_force or {}).items()}
    found = unmet({name: spec.depends_on for name, spec in specs.items()}, before, files)
    return [(name, rejection_of(files[name], text)) for name, text in found.items()]


def _explained(text: str, name: str, needs: Needs, known: Collection[str]) -> str:
    """The text, or a better one where the file that is missed is there and is refused itself."""
    refused = sorted({one.set for one in needs[name] if one.set not in needs and one.set in known})
    return f"depends_on names {', '.join(refused)}, which is refused itself; mend that first" if refused else text
