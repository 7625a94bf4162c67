"""Every kind of conversion gives the bytes recorded in the table."""

from conversion_digests import TABLE, table


def test_bytes_are_those_of_the_table(tmp_path):
    known = TABLE.read_text().splitlines()
    assert len(known) > 400
    assert table(tmp_path) == known
