"""A part of many things: as many of each group, and nearly the same where some are missing."""

from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.sampling import some_of_each

THINGS = st.lists(st.tuples(st.sampled_from("AB"), st.text(max_size=3)), unique=True, max_size=40)


@given(THINGS, st.integers(2, 20))
def test_as_many_are_taken_of_each_group(things, most: int):
    chosen = some_of_each(things, most)
    assert chosen == sorted(set(chosen))
    if len(things) <= most:
        assert len(chosen) == len(things)
        return
    sizes = [sum(thing[0] == group for thing in things) for group in sorted({thing[0] for thing in things})]
    taken = [sum(things[n][0] == group for n in chosen) for group in sorted({thing[0] for thing in things})]
    assert taken == [min(size, max(most // len(sizes), 1)) for size in sizes]


@given(THINGS.filter(lambda things: len(things) > 12), st.data())
def test_where_one_is_missing_all_others_stay_chosen(things, data):
    gone = data.draw(st.sampled_from(things))
    rest = [thing for thing in things if thing != gone]
    before = {things[n] for n in some_of_each(things, 10)} - {gone}
    if {thing[0] for thing in rest} == {thing[0] for thing in things}:
        assert before <= {rest[n] for n in some_of_each(rest, 10)}
