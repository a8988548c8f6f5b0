"""Whatever is wrong in a file of settings is one line that names file, line and key, and the key that was probably meant."""

import pytest
from pydantic import Field, model_validator

from northstar.base.config_files import ConfigError, Section, read_config, read_config_file, suggest_name


class Inner(Section):
    colour: str = Field("red", description="name a colour")
    sizes: list[int] = Field([], description="give whole numbers")


class Outer(Section):
    inner: dict[str, Inner] = Field({}, description="give an entry for each name")
    width: int | None = None
    sender: str | None = Field(None, alias="from")

    @model_validator(mode="after")
    def _narrow(self):
        if self.width == 7:
            raise ValueError("seven is no width")
        return self


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("inner:\n  a: {colour: red}\n  b:\n    color: red", 4, "inner.b.color", "unknown key; did you mean 'colour'? known are colour, sizes"),
        ("inner:\n  a:\n    sizes:\n    - 1\n    - two", 5, "inner.a.sizes.1", "give whole numbers"),
        ("inner: [a]", 1, "inner", "give an entry for each name"),
        ("width: 7", 1, "", "seven is no width"),
        ("\nwidth: wide", 2, "width", "give a whole number"),
        ("form: a@example.org", 1, "form", "unknown key; did you mean 'from'? known are from, inner, width"),
        ("3", 1, "", "give names with values"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text, line, key, problem):
    with pytest.raises(ConfigError) as caught:
        read_config(text, "outer.yml", Outer)
    assert (caught.value.line, caught.value.key) == (line, key)
    place = ", ".join(part for part in ("outer.yml", f"line {line}", key) if part)
    assert str(caught.value) == f"{place}: {problem}"


def test_nothing_is_what_the_model_says_by_default(tmp_path):
    assert read_config("", "outer.yml", Outer) == read_config_file(tmp_path / "none.yml", Outer) == Outer()


def test_a_name_like_no_other_is_not_guessed():
    assert suggest_name("xyz", ["stripe", "sql"]) == "known are sql, stripe"
