"""Which column means what: names of columns, whose format a header is, and changes that a person makes."""

from __future__ import annotations

import pytest

from rating.decks import mapping as maps
from rating.decks.mapping import FIELDS, Mapping, guess_mapping, mapped, score, simplified
from rating.decks.reading import guess, with_international
from rating.decks.sheet import open_sheet
from rating.errors import TariffError


@pytest.mark.parametrize(
    ("name", "simple"),
    [
        ("Cost / Min(USD)", "cost_min"), ("\ufeffPrefix", "prefix"), ("#Id", "id"), ("Dial Code", "dial_code"),
        ("  Rate (per minute) [EUR] ", "rate_eur"), ("_x_", "x"), ("Zürich", "z_rich"), ("", ""), ("()", ""),
        ("A(b)c(d)", "ac"), ("XX", "xx"),
    ],
)  # fmt: skip
def test_a_name_of_a_column_is_simplified(name: str, simple: str) -> None:
    """Small letters and underscores; what stands in brackets, and marks at the beginning, are left out."""
    assert simplified(name) == simple


def test_a_header_is_the_row_that_names_most_columns() -> None:
    """Of one format: names of two systems do not add up."""
    assert score(["prefix", "destination", "price", "x"]) == 3
    assert score(["Dial Code", "Rate", ""]) == 2
    assert score(["49", "Germany", "0.1"]) == 0
    assert score([]) == 0
    # `pattern` is ASTPP's alone, `next_rate` Yeti's.
    assert score(["pattern", "next_rate"]) == 1


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ("prefix price", "prefix price"),
        ("code rate", "prefix price"),
        # A field goes to its own name before others, wherever it stands, and else to the first that looks like it.
        ("code prefix rate", "- prefix price"),
        ("rate cost prefix", "price - prefix"),
        ("price rate prefix cost", "price - prefix -"),
        ("prefix prefix price", "prefix - price"),
        ("Area tz Interval_1 Interval_N", "destination timezone first_increment_s increment_s"),
        ("x y", "- -"),
        ("cc currency_name", "country_code currency"),
    ],
)
def test_columns_are_guessed(columns: str, fields: str) -> None:
    """By their names, ours and those that carriers use."""
    found = guess_mapping(columns.split(), format_name="callctl")
    assert found.fields == tuple(field.replace("-", "") for field in fields.split())
    assert (found.format, found.decimal, found.zone, found.international) == ("callctl", "", "", "")


def test_the_names_of_our_own_columns() -> None:
    """Each field by its own name, and by those that others give it."""
    names = maps._own_names()
    assert names == maps._NAMES["callctl"]
    assert set(names.values()) == set(FIELDS["callctl"])
    assert (names["steps"], names["dial_code"], names["currency_name"]) == ("steps", "prefix", "currency")


@pytest.mark.parametrize(
    ("columns", "is_exact"),
    [
        (["prefix", "price"], True), (["Prefix ", "PRICE"], True), (["prefix", "destination", "steps"], True),
        (["price"], False), (["prefix", "rate"], False), (["prefix", "price", ""], True),
        (["prefix", "price", "x"], False), (["prefix", "price", "price"], False), ([], False),
    ],
)  # fmt: skip
def test_only_our_own_header_needs_no_confirming(columns: list[str], is_exact: bool) -> None:
    """Each column by its own name, once, and none that is not known."""
    assert guess_mapping(columns).is_exact is is_exact


@pytest.mark.parametrize(
    ("columns", "format_name"),
    [
        ("prefix price", "callctl"),
        ("", "callctl"),
        ("dialprefix destination rateinitial", "a2billing"),
        ("prefix sell_price", "magnusbilling7"),
        ("code cost_min", "astpp"),
        ("prefix next_rate", "yeti"),
        ("Prefix Rate RateUnit", "cgrates"),
        # One column of Yeti's in a file of ours, with more names of ours than of Yeti's: ours.
        ("prefix destination price connect_fee increment_s reject_calls", "callctl"),
        # As many of Yeti's as of ours: Yeti's.
        ("prefix destination connect_fee price reject_calls", "yeti"),
        # Two that only Yeti has are Yeti's, whatever else there is.
        ("prefix destination price connect_fee increment_s per_s steps reject_calls initial_rate", "yeti"),
    ],
)
def test_whose_columns_they_are(columns: str, format_name: str) -> None:
    """What another system's file has and ours could not says whose it is."""
    found = guess_mapping(columns.split())
    assert found.format == format_name
    assert found.is_exact == (columns == "prefix price")


def test_the_names_of_prefix_and_destination_are_those_of_the_format() -> None:
    """Ours where a format has no other."""
    names = {name: (Mapping(name, ()).prefix, Mapping(name, ()).destination) for name in FIELDS}
    assert names == {
        "callctl": ("prefix", "destination"),
        "a2billing": ("dialprefix", "destination"),
        "magnusbilling7": ("dialprefix", "destination"),
        "astpp": ("pattern", "comment"),
        "yeti": ("prefix", "destination"),
        "cgrates": ("Prefix", "Destination"),
    }
    mapping = Mapping("callctl", ("", "prefix", "price"))
    assert (mapping.column_of("price"), mapping.column_of("prefix"), mapping.column_of("steps")) == (2, 1, None)


def test_a_format_that_is_not_known() -> None:
    """The known ones are named, and of the other one forty characters."""
    for name in ("vcard", "v" * 41):
        with pytest.raises(TariffError) as caught:
            guess_mapping(["prefix"], format_name=name)
        assert str(caught.value) == (
            f"there is no format {name[:40]!r}; "
            "expected one of callctl, a2billing, magnusbilling7, astpp, yeti, cgrates"
        )


COLUMNS = ("Code", " Rate ", "a=b")


def change(*changes: str) -> tuple[str, ...]:
    """Return the fields after some changes to code, rate and nothing."""
    mapping = mapped(Mapping("callctl", ("prefix", "price", ""), ",", "UTC", "00", is_exact=True), COLUMNS, changes)
    assert mapping == Mapping("callctl", mapping.fields, ",", "UTC", "00", is_exact=False)
    return mapping.fields


def test_a_person_may_change_what_columns_mean() -> None:
    """By name or by number; a field is in one place; without a field a column is left out."""
    assert change() == ("prefix", "price", "")
    assert change("3=destination") == ("prefix", "price", "destination")
    assert change("rate=", "3=price") == ("prefix", "", "price")
    assert change("CODE=price") == ("price", "", "")
    assert change(" 1 =price", "2=prefix") == ("price", "prefix", "")
    assert change("rate=price") == ("prefix", "price", "")
    assert change("a=b=connect_fee") == ("prefix", "price", "connect_fee")
    assert change("1=", "2=") == ("", "", "")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("A", "expected column=field, found 'A'"),
        ("x" * 41, f"expected column=field, found {'x' * 40!r}"),
        ("1=prize", "there is no field 'prize'; did you mean price?"),
        ("1=zzz", f"there is no field 'zzz'; expected one of {', '.join(FIELDS['callctl'])}"),
        ("1=" + "z" * 41, f"there is no field {'z' * 40!r}; expected one of {', '.join(FIELDS['callctl'])}"),
        ("0=price", "there is no column '0' in the file; it has Code,  Rate , a=b"),
        ("4=price", "there is no column '4' in the file; it has Code,  Rate , a=b"),
        ("=price", "there is no column '' in the file; it has Code,  Rate , a=b"),
        ("y" * 41 + "=price", f"there is no column {'y' * 40!r} in the file; it has Code,  Rate , a=b"),
    ],
)
def test_a_change_that_names_nothing(told: str, reason: str) -> None:
    """What it names, and what there is."""
    with pytest.raises(TariffError) as caught:
        change(told)
    assert str(caught.value) == reason


def test_of_many_columns_an_error_names_no_more_than_a_line() -> None:
    """Two hundred characters."""
    columns = ["abcdefghi"] * 30
    with pytest.raises(TariffError) as caught:
        mapped(Mapping("callctl", ("",) * 30), columns, ["x=price"])
    assert str(caught.value) == f"there is no column 'x' in the file; it has {', '.join(columns)[:200]}"


@pytest.mark.parametrize(
    ("cells", "international"),
    [
        (["0049", "0044", "1"], "00"), (["0049", "1"], ""), (["0049"], "00"), (["0049", "0044", "1", "2"], ""),
        (["0009", "0008"], ""), ([" 0049 "], "00"), (["10049"], ""), ([], ""),
    ],
)  # fmt: skip
def test_00_stands_before_more_than_half_of_the_prefixes(cells: list[str], international: str) -> None:
    """Then it is taken for what is dialled before a country code; half of them are not enough."""
    sheet = open_sheet("\n".join(["prefix,price", *(f"{cell},1" for cell in cells)]).encode())
    found = guess(sheet)
    assert (found.international, found.is_exact) == (international, not international)
    assert with_international(sheet, guess_mapping(sheet.columns)) == found
    other = Mapping("callctl", ("", "price"))
    assert with_international(sheet, other) is other


def test_a_guess_may_be_told_the_format() -> None:
    """And without a column of prefixes there is nothing to look at."""
    sheet = open_sheet(b"prefix,destination,connect_fee\n0049,x,1\n")
    assert guess(sheet, format_name="yeti").format == "yeti"
    assert guess(sheet, format_name="yeti").international == "00"
    assert guess(open_sheet(b"destination,price\nx,1\n")).international == ""
