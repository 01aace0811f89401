"""Parameters: unknown keys get their closest match, everything wrong is said at once, sections are found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from hyped_core.errors import MissingFileError, ParamsError
from hyped_core.params import Params, build, load_params, read_section, read_yaml


class Inner(Params):
    depth: int = Field(1, ge=0)


class Blur(Params):
    sigma_px: float = Field(2.0, gt=0)
    """Standard deviation."""
    channel: str = "Cy5"
    inner: Inner = Inner()


def test_unknown_key_gets_its_closest_match():
    with pytest.raises(ParamsError) as caught:
        build(Blur, {"sigma_pix": 1}, where="params.yaml#blur")
    text = str(caught.value)
    assert (
        "params.yaml#blur" in text and "sigma_pix: unknown key" in text and "did you mean 'sigma_px'?" in text
    )
    assert caught.value.exit_code == 3


def test_unknown_key_far_from_any_lists_them():
    with pytest.raises(ParamsError, match="known keys: sigma_px, channel, inner"):
        build(Blur, {"zzz": 1})


class Outer(Params):
    blurs: tuple[Blur, ...] = ()
    named: dict[str, Blur] = {}
    perhaps: Inner | None = None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"blurs": [{}, {"chanel": "x"}]}, "blurs/1/chanel: unknown key (to mend: did you mean 'channel'?"),
        ({"named": {"a": {"inner": {"zzz": 1}}}}, "named/a/inner/zzz: unknown key (to mend: known keys: depth)"),
        ({"perhaps": {"dept": 1}}, "perhaps/dept: unknown key (to mend: did you mean 'depth'?"),
        ({"blur": []}, "blur: unknown key (to mend: did you mean 'blurs'?"),
    ],
)
def test_an_unknown_key_further_in_gets_the_keys_of_its_own_place(values, said):
    with pytest.raises(ParamsError) as caught:
        build(Outer, values)
    assert said in str(caught.value)


def test_everything_wrong_is_said_at_once():
    with pytest.raises(ParamsError) as caught:
        build(Blur, {"sigma_px": -1, "chanel": "x", "inner": {"depth": -3}})
    text = str(caught.value)
    assert "3 problem(s)" in text
    assert all(place in text for place in ("sigma_px", "chanel", "inner/depth"))


def test_params_are_frozen_and_described():
    blur = Blur()
    with pytest.raises(ValueError, match="frozen"):
        blur.sigma_px = 3
    assert Blur.model_fields["sigma_px"].description == "Standard deviation."


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("steps:\n  blur: {sigma_px: 4}\n  empty:\n  text: hello\n")
    return path


def test_section_by_dots(file):
    assert load_params(f"{file}#steps.blur", Blur).sigma_px == 4
    assert load_params(f"{file}#steps.empty", Blur) == Blur()
    assert read_section(str(file))["steps"]["text"] == "hello"


def test_overrides_win_unless_none(file):
    assert load_params(f"{file}#steps.blur", Blur, sigma_px=9).sigma_px == 9
    assert load_params(f"{file}#steps.blur", Blur, sigma_px=None).sigma_px == 4
    assert load_params(None, Blur) == Blur()


def test_missing_section_names_what_is_there(file):
    with pytest.raises(ParamsError, match=r"no section 'steps.blr'") as caught:
        load_params(f"{file}#steps.blr", Blur)
    assert "blur, empty, text" in caught.value.mend
    with pytest.raises(ParamsError, match="must be a mapping"):
        load_params(f"{file}#steps.text", Blur)
    with pytest.raises(ParamsError, match="no section 'steps.text.more'"):
        load_params(f"{file}#steps.text.more", Blur)


def test_files_that_are_missing_or_not_yaml(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    for content in (b"a: [1\n", b"\xff\xfe\x00bad", b"a: b: c\n"):
        bad.write_bytes(content)
        with pytest.raises(ParamsError, match="not valid YAML"):
            read_yaml(bad)


def test_no_object_is_made_from_yaml(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ParamsError):
        read_yaml(bad)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(max_size=5), max_size=5))
def test_any_mapping_gives_params_or_a_params_error(values):
    try:
        made = build(Blur, values)
    except ParamsError as error:
        assert error.exit_code == 3
    else:
        assert set(values) <= set(Blur.model_fields)
        assert made == Blur.model_validate(made.model_dump())
