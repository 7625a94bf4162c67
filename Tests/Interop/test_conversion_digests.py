"""Every kind of conversion gives the bytes that it gave when the table was made."""

from conversion_digests import TABLE, table


def test_bytes_are_as_before(tmp_path):
    known = TABLE.read_text().splitlines()
    assert len(known) > 400
    assert table(tmp_path) == known
