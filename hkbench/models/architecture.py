"""What decides a network's structure: a name of the registry and what is changed of it."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hkbench.errors import UsageError
from hkbench.models.household import HouseholdConfig

FAMILY = "household"
"""The model whose structure is set option by option."""


class Architecture(BaseModel):
    """A network without its weights; the settings of a trial hold the same fields.

    `cut` keeps the first stages of the body and puts a light head on them. `activation` swaps the activation
    everywhere. `head_layers` replaces the head by so many fully connected layers of `head_width` before the
    classifier; None leaves the network its own head. The fields from `layout` on are options of the family
    `household`, None where its default holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    image_size: int = Field(default=64, ge=16, le=512)
    cut: int | None = Field(default=None, ge=1)
    activation: str | None = None
    head_layers: int | None = Field(default=None, ge=0, le=3)
    head_width: int = Field(default=256, ge=8, le=4096)
    head_dropout: float = Field(default=0.2, ge=0, lt=1)
    layout: str | None = None
    block: str | None = None
    width: float | None = None
    depth: int | None = None
    expansion: float | None = None
    kernel_size: int | None = None
    squeeze_excitation: bool | None = None
    stem: str | None = None
    classifier: str | None = None
    dropout: float | None = None

    @property
    def options(self) -> dict[str, object]:
        """The options of the own family that are set."""
        found = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def label(self) -> str:
        """The network in a few words, as tables show it.

        Examples: `household block fire width 0.5`, `densenet121 cut 2`, `squeezenet1_1 gelu head 1×256`.
        """
        words = [self.model]
        if self.cut is not None:
            words.append(f"cut {self.cut}")
        words += [_said(name, value) for name, value in self.options.items()]
        if self.activation is not None:
            words.append(self.activation)
        if self.head_layers is not None:
            words.append(f"head {self.head_layers}×{self.head_width}")
        return " ".join(words)

    def member(self) -> HouseholdConfig:
        """Return the member of the own family that the options make.

        Raises:
            UsageError: an option has a value that no member has.
        """
        chosen = {} if self.activation is None else {"activation": self.activation}
        try:
            return HouseholdConfig.model_validate(self.options | chosen)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise UsageError(f"{FAMILY} can't have {where} {problem['input']}: {problem['msg']}.") from error

    def resolved(self) -> Self:
        """Return the same network with every option of the own family written out, defaults too.

        So a record of it stays true when the family's defaults change. Other networks have no such options
        and are returned as they are.

        Raises:
            UsageError: an option has a value that no member has.
        """
        if self.model != FAMILY:
            return self
        member = self.member()
        return self.model_copy(update={name: getattr(member, name) for name in (*OPTIONS, "activation")})


def _said(option: str, value: object) -> str:
    """Return an option with its value: `width 0.5`, `squeeze excitation`, `no squeeze excitation`."""
    words = option.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"


OPTIONS = tuple(
    name
    for name in HouseholdConfig.model_fields
    if name in Architecture.model_fields and name != "activation"
)
