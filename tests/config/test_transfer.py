"""What may be said of initial weights and frozen parts, before anything is read."""

import pytest

from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.transfer import names_of


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["init_from=3"], "init_from must be null, or a run's folder or file of weights, got 3"),
        (["init_parts=encoder"], "init_parts has no effect without init_from=RUN"),
        (["freeze=[]"], r"freeze must be null, a name of a part such as encoder, .*; got \[\]"),
        (["freeze=[encoder,3]"], "freeze must be null, a name"),
        (["freeze='a b'"], "freeze must be null, a name"),
        (["freeze={encoder:1}"], "freeze must be null, a name"),
        (["init_from=a", "init_parts=true"], "init_parts must be null, a name"),
        (["unfreeze_at=10"], "unfreeze_at has no effect without something frozen"),
        (["freeze=encoder", "unfreeze_at=0"], "from 1 up; got 0"),
        (["freeze=encoder", "unfreeze_at=0epochs"], "from 1 up; got '0epochs'"),
        (["freeze=encoder", "unfreeze_at=1.5"], "from 1 up; got 1.5"),
        (["freeze=encoder", "unfreeze_at=true"], "from 1 up; got True"),
        (["freeze_=encoder"], "Did you mean freeze"),
    ],
)
def test_what_does_not_fit_is_refused(words, reason):
    with pytest.raises(ConfigurationError, match=reason):
        compose_experiment(words)


def test_one_name_is_a_list_of_one():
    config = compose_experiment(["freeze=encoder", "unfreeze_at=2epochs"]).config
    assert names_of("freeze", config.freeze) == ("encoder",)
    config = compose_experiment(["freeze=[embedding,*bias*]", "unfreeze_at=1epoch"]).config
    assert names_of("freeze", config.freeze) == ("embedding", "*bias*")
    assert names_of("freeze", None) == ()
