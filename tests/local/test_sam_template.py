"""What is read from a SAM or CloudFormation template."""

import os
import re
import socket
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter.local.command_line import parse
from adapter.local.template import TemplateError, TemplateFunction, read

ROOT = Path(__file__).parent.parent.parent

FUNCTION = """\
Resources:
  Tea:
    Type: AWS::Serverless::Function
    Properties:
      Handler: main.handler
      Runtime: python3.13
"""

PLAIN = """\
Resources:
  Tea:
    Type: AWS::Lambda::Function
    Properties:
      Handler: main.handler
      Runtime: python3.13
      Code: .
      Timeout: 7
"""


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TemplateFunction]:
    """Reads a template of this text; errors have its name without a folder."""
    monkeypatch.chdir(tmp_path)

    def template(text: str, function: str | None = None) -> TemplateFunction:
        Path("template.yaml").write_text(text)
        return read(Path("template.yaml"), function, "eu-west-1")

    return template


Template = Callable[..., TemplateFunction]


def properties(text: str) -> str:
    """The function with more properties."""
    return FUNCTION + textwrap.indent(text, " " * 6)


def everything(function: TemplateFunction) -> tuple[Any, ...]:
    return (
        function.handler,
        function.app_dir,
        function.timeout,
        function.memory(128),
        function.invoke_mode,
        function.variables(),
    )


def test_this_repositorys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    function = read(Path("template.yaml"), None, "eu-west-1")
    assert everything(function) == (
        "main.handler",
        Path("examples/fastapi_app"),
        30,
        512,
        "RESPONSE_STREAM",
        ({"SLACK_SIGNING_SECRET": ""}, {"REPORTS_TABLE": "!Ref Reports"}),
    )


def test_what_is_not_said_is_what_lambda_takes(template: Template) -> None:
    assert everything(template(FUNCTION)) == ("main.handler", Path(), 3, 128, None, ({}, {}))


def test_globals(template: Template) -> None:
    """What the function says wins; mappings are merged, but not those that are an intrinsic function."""
    function = template(
        """\
Globals:
  Function:
    Handler: all.handler
    Runtime: python3.13
    Timeout: 5
    MemorySize: 1024
    Environment: {Variables: {ALL: all, BOTH: all, REF: !Ref AWS::Region}}
    FunctionUrlConfig: {AuthType: NONE, InvokeMode: RESPONSE_STREAM}
"""
        + FUNCTION
        + textwrap.indent("Timeout: 6\nEnvironment: {Variables: {OWN: own, BOTH: own, REF: !Sub own}}", " " * 6)
    )
    assert everything(function) == (
        "main.handler",
        Path(),
        6,
        1024,
        "RESPONSE_STREAM",
        ({"ALL": "all", "BOTH": "own", "OWN": "own", "REF": "own"}, {}),
    )


def test_globals_are_not_for_plain_functions(template: Template) -> None:
    function = template("Globals: {Function: {Timeout: 5, MemorySize: 512}}\n" + PLAIN)
    assert (function.timeout, function.memory(128)) == (7, 128)


def test_code_is_relative_to_the_template(tmp_path: Path) -> None:
    (tmp_path / "stack" / "code").mkdir(parents=True)
    path = tmp_path / "stack" / "template.yaml"
    path.write_text(properties("CodeUri: code/"))
    assert read(path, None, "eu-west-1").app_dir == tmp_path / "stack" / "code"


@pytest.mark.parametrize(
    ("target", "mode", "expected"),
    [
        ("!Ref Tea", "InvokeMode: RESPONSE_STREAM", "RESPONSE_STREAM"),
        ("!GetAtt Tea.Arn", "InvokeMode: BUFFERED", "BUFFERED"),
        ("{'Fn::GetAtt': [Tea, Arn]}", "AuthType: NONE", "BUFFERED"),
        ("!Sub '${Tea.Arn}'", "InvokeMode: !Ref Mode", "RESPONSE_STREAM"),
        ("!GetAtt Coffee.Arn", "InvokeMode: RESPONSE_STREAM", None),
    ],
)
@pytest.mark.parametrize("function", [FUNCTION, PLAIN])
def test_function_url_of_its_own(
    template: Template, function: str, target: str, mode: str, expected: str | None
) -> None:
    url = f"  Url: {{Type: AWS::Lambda::Url, Properties: {{TargetFunctionArn: {target}, {mode}}}}}\n"
    parameters = "Parameters: {Mode: {Type: String, Default: RESPONSE_STREAM}}\n"
    assert template(parameters + function + url).invoke_mode == expected


def test_function_url_of_sam_buffers_unless_told_otherwise(template: Template) -> None:
    assert template(properties("FunctionUrlConfig: {AuthType: NONE}")).invoke_mode == "BUFFERED"


PARAMETERS = """\
Parameters:
  Stage: {Type: String, Default: dev}
  Count: {Type: Number, Default: 3}
  Secret: {Type: String, NoEcho: true}
  Ami: {Type: AWS::SSM::Parameter::Value<String>, Default: /path/of/it}
  Zones: {Type: CommaDelimitedList, Default: "a, b"}
  Subnets: {Type: 'List<AWS::EC2::Subnet::Id>', Default: "one,two"}
  Numbers: {Type: List<Number>, Default: "1,2"}
Mappings: {Of: {dev: {Name: mapped}}}
Conditions:
  IsDev: !Equals [!Ref Stage, dev]
  IsNot: !Not [!Condition IsDev]
  IsBoth: !And [!Condition IsDev, !Equals [!Ref Count, "3"]]
  IsEither: !Or [!Condition IsNot, !Condition IsNot]
  IsSecret: !Equals [!Ref Secret, x]
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("''", ""),
        ("true", "true"),
        ("no", "false"),
        ("012345678901", "012345678901"),
        ("1.50", "1.50"),
        ("2024-01-01", "2024-01-01"),
        ("!Ref Stage", "dev"),
        ("{Ref: Stage}", "dev"),
        ("!Ref Count", "3"),
        ("!Ref AWS::Region", "eu-west-1"),
        ("!Ref AWS::AccountId", "123456789012"),
        ("!Sub 'arn:${AWS::Partition}:s3:::${Stage}-${!Literal}-$x'", "arn:aws:s3:::dev-${Literal}-$x"),
        ("!Sub ['${a}/${Stage}', {a: !Ref Count}]", "3/dev"),
        ("!If [IsDev, yes, !Ref Secret]", "true"),
        ("!If [IsNot, 1, !Sub '${Count}']", "3"),
        ("!If [IsBoth, both, other]", "both"),
        ("!If [IsEither, either, other]", "other"),
        ("{'Fn::If': [IsDev, {Ref: Stage}, x]}", "dev"),
        ("!Join ['-', [a, !Ref Stage, 3]]", "a-dev-3"),
        ("!Join ['', !Split [',', 'a,b']]", "ab"),
        ("!Join ['+', !Ref Zones]", "a+b"),
        ("!Select [1, !Ref Zones]", "b"),
        ("!Select ['0', [!Ref Stage, x]]", "dev"),
        ("!FindInMap [Of, !Ref Stage, Name]", "mapped"),
        ("!Join [',', [a, !If [IsNot, b, !Ref AWS::NoValue], c]]", "a,c"),
        ("!Join ['+', !Ref Subnets]", "one+two"),
        ("!Select [1, !Ref Numbers]", "2"),
    ],
)
def test_values(template: Template, value: str, expected: str) -> None:
    text = PARAMETERS + properties(f"Environment:\n  Variables:\n    NAME: {value}")
    assert template(text).variables() == ({"NAME": expected}, {})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("!Ref Table", "!Ref Table"),
        ("!Ref Secret", "!Ref Secret"),
        ("!Ref Ami", "!Ref Ami"),
        ("!Ref AWS::StackId", "!Ref AWS::StackId"),
        ("!GetAtt Table.Arn", "!GetAtt Table.Arn"),
        ("{'Fn::GetAtt': [Table, Arn]}", "!GetAtt Table.Arn"),
        ("!Sub 'x${Table.Arn}'", "!GetAtt Table.Arn"),
        ("!Sub ['${a}', {a: !Ref Table}]", "!Ref Table"),
        ("!ImportValue shared", "!ImportValue shared"),
        ("!Join ['', [a, !Ref Table]]", "!Ref Table"),
        ("!Select [0, !GetAZs '']", "!GetAZs "),
        ("!Transform {Name: x}", "!Transform"),
        ("!If [IsSecret, a, b]", "!Ref Secret"),
        ("!If [IsDev, !Ref Table, b]", "!Ref Table"),
        ("'{{resolve:ssm:/tea/password}}'", "{{resolve:ssm:/tea/password}}"),
        (
            "!Sub 'x-{{resolve:secretsmanager:${Stage}:SecretString:a}}'",
            "{{resolve:secretsmanager:dev:SecretString:a}}",
        ),
    ],
)
def test_values_that_only_a_stack_knows(template: Template, value: str, shown: str) -> None:
    text = PARAMETERS + properties(f"Environment:\n  Variables:\n    NAME: {value}\n    OTHER: known")
    assert template(text).variables() == ({"OTHER": "known"}, {"NAME": shown})


def test_no_value_is_as_if_it_were_not_there(template: Template) -> None:
    text = "Timeout: !Ref AWS::NoValue\nEnvironment:\n  Variables:\n    NAME: !If [IsDev, !Ref AWS::NoValue, x]"
    function = template(PARAMETERS + properties(text))
    assert function.timeout == 3
    assert function.variables() == ({}, {})


def test_variables_may_depend_on_a_condition(template: Template) -> None:
    for value, expected in (
        ("!If [IsDev, {A: dev}, {A: prod}]", {"A": "dev"}),
        ("!If [IsDev, !Ref AWS::NoValue, {A: prod}]", {}),
    ):
        text = PARAMETERS + properties(f"Environment:\n  Variables: {value}")
        assert template(text).variables() == (expected, {})


def test_the_fronts_of_its_apis(template: Template) -> None:
    events = "Events:\n  Hello: {Type: Api, Properties: {Path: /hello, Method: get}}\n  Queue: {Type: SQS}\n  Odd: text"
    assert template(properties(events)).fronts == ["rest-api"]
    assert template(properties("Events: odd")).fronts == template(FUNCTION).fronts == []


def test_a_function_url_may_depend_on_a_condition(template: Template) -> None:
    for condition, expected in (("IsDev", "BUFFERED"), ("IsNot", None)):
        text = properties(f"FunctionUrlConfig: !If [{condition}, {{AuthType: NONE}}, !Ref AWS::NoValue]")
        assert template(PARAMETERS + text).invoke_mode == expected


SEVERAL = """\
Resources:
  Tea: {Type: AWS::Serverless::Function, Properties: {Handler: tea.handler}}
  Coffee: {Type: AWS::Lambda::Function, Properties: {Handler: coffee.handler}}
  Table: {Type: AWS::DynamoDB::Table}
"""


def test_one_of_several_functions(template: Template) -> None:
    assert template(SEVERAL, "Tea").handler == "tea.handler"
    assert template(SEVERAL, "Coffee").handler == "coffee.handler"


def test_a_template_may_be_json(template: Template) -> None:
    value = '{"Resources": {"Tea": {"Type": "AWS::Lambda::Function", "Properties": {"Handler": "a.b", "Timeout": 9}}}}'
    assert template(value).timeout == 9


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Resources:\n  Tea: [\n", 3),
        ("Resources:\n  Tea: a: b\n", 2),
        ("Resources:\n  ? [a, b]\n  : c\n", 2),
        ("Resources: *a\n", 1),
    ],
)
def test_yaml_that_is_none(template: Template, text: str, line: int) -> None:
    with pytest.raises(TemplateError, match=rf"^template\.yaml, line {line}: [^\n]+$"):
        template(text)


def test_a_function_that_is_not_there(template: Template) -> None:
    with pytest.raises(TemplateError, match=r"^template\.yaml: there is no function 'Table', only Tea, Coffee$"):
        template(SEVERAL, "Table")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\0", "unacceptable character #x0000: special characters are not allowed"),
        ("", "this is no template: it is not a mapping"),
        ("- a\n", "this is no template: it is not a mapping"),
        ("Resources: {}\n", "there is no function, neither AWS::Serverless::Function nor AWS::Lambda::Function"),
        ("Resources: text\n", "Resources is not a mapping"),
        (SEVERAL, "there are several functions, choose one with --function: Tea, Coffee"),
        (FUNCTION.replace("python3.13", "nodejs22.x"), "Tea.Runtime is nodejs22.x; only Python functions run here"),
        (
            FUNCTION.replace("Handler: main.handler", "PackageType: Image"),
            "Tea.PackageType is Image: its handler is in the image and not in the template",
        ),
        (FUNCTION.replace("Handler: main.handler", "Tracing: Active"), "Tea.Handler is missing"),
        (
            FUNCTION.replace("main.handler", "!GetAtt Cup.Name"),
            "Tea.Handler is !GetAtt Cup.Name, which only a deployed stack knows",
        ),
        (FUNCTION.replace("main.handler", "[main]"), "Tea.Handler is not text"),
        (properties("CodeUri: nowhere"), "Tea.CodeUri names a folder that is not there: 'nowhere'"),
        (properties("CodeUri: s3://bucket/key"), "Tea.CodeUri is not a folder on this machine"),
        (properties("CodeUri: {Bucket: b, Key: k}"), "Tea.CodeUri is not a folder on this machine"),
        (properties("InlineCode: handler = print"), "Tea.InlineCode is not served: only code in a folder is"),
        (PLAIN.replace("Code: .", "Code: {ZipFile: x}"), "Tea.Code is not a folder on this machine"),
        (properties("Timeout: soon"), "Tea.Timeout is a whole number, not 'soon'"),
        (properties("MemorySize: -1"), "Tea.MemorySize is a whole number, not '-1'"),
        (
            properties("FunctionUrlConfig: {InvokeMode: LIVE}"),
            "Tea.InvokeMode is RESPONSE_STREAM or BUFFERED, not 'LIVE'",
        ),
        (properties("Environment: [A]"), "Tea.Environment is not a mapping"),
        (properties("Environment: {Variables: A}"), "Tea.Environment.Variables is not a mapping"),
        (properties("Environment: {Variables: {A: [b]}}"), "Tea.Environment.Variables.A is not text"),
        (properties("Environment: {Variables: {A: }}"), "Tea.Environment.Variables.A is not text"),
        (
            properties("Environment: {Variables: {A: !If [x, y]}}"),
            "Tea.Environment.Variables.A has a !If that is not as CloudFormation has it",
        ),
        *[
            (
                properties(f"Environment: {{Variables: {{A: {value}}}}}"),
                f"Tea.Environment.Variables.A has a {value.split()[0]} that is not as CloudFormation has it",
            )
            for value in (
                "!Select [1, [a]]",
                "!Select [-1, [a]]",
                "!Select [0, a]",
                "!Join [x]",
                "!FindInMap [a, b, c]",
            )
        ],
        (
            properties("Environment: {Variables: {A: !If [x, y, z]}}"),
            "Tea.Environment.Variables.A asks for the condition 'x', which is not there",
        ),
        (
            "Conditions: {A: !Condition B, B: !Condition A}\n" + properties("Timeout: !If [A, 1, 2]"),
            "Tea.Timeout refers to itself",
        ),
    ],
)
def test_templates_that_cannot_be_used(template: Template, text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        everything(template(text))
    assert str(raised.value) == f"template.yaml: {complaint}"


def variable(value: str) -> str:
    return properties(f"Environment: {{Variables: {{A: {value}}}}}")


def chain(name: str, first: str, following: str, count: int) -> str:
    """A section of so many anchors, each of which doubles the one before it."""
    links = [f"{name}0: &{name}0 {first}"]
    links += [f"{name}{n}: &{name}{n} {following.replace('*', f'*{name}{n - 1}')}" for n in range(1, count)]
    return f"Metadata: {{{', '.join(links)}}}\n"


CONDITIONS = "Conditions:\n  C0: !Equals [a, a]\n" + "".join(
    f"  C{n}: !And [!Condition C{n - 1}, !Condition C{n - 1}]\n" for n in range(1, 60)
)
TEXT = "Parameters: {P: {Type: String, Default: " + "x" * 300_000 + "}}\n"
BOMBS = {
    "sequences": variable("[" * 100_000 + "]" * 100_000),
    "mappings": variable("{a: " * 50_000 + "}" * 50_000),
    "blocks": FUNCTION + "".join(" " * (6 + n) + f"k{n}:\n" for n in range(1200)),
    "JSON": '{"Resources":' * 5_000 + "{}" + "}" * 5_000,
    "functions": variable('!Join ["", [' * 50_000 + "]]" * 50_000),
    "functions of 150 levels": variable("!Not [" * 150 + "]" * 150),
    "aliases of 50 levels": chain("a", "[" * 50 + "]" * 50, "[" * 50 + "*" + "]" * 50, 50) + FUNCTION,
    "a mapping in itself": "Globals: {Function: &a {Environment: *a}}\n" + FUNCTION,
    "a list in itself": variable("&a [*a]"),
    "a merge of itself": variable("&a {<<: *a}"),
    "a function of itself": variable('!Join &a ["", *a]'),
    "lists of lists": chain("a", "[x, x]", "[*, *]", 60) + FUNCTION,
    "mappings of mappings": chain("a", "{x: 1}", "{l: *, r: *}", 60) + FUNCTION,
    "merges of merges": chain("a", "{x: 1}", "{<<: [*, *]}", 60) + FUNCTION,
    "joins of joins": chain("a", '!Join ["", [x, x]]', '!Join ["", [*, *]]', 60) + variable("*a59"),
    "15 joins of joins": chain("a", f'!Join ["", [{"x" * 99}]]', '!Join ["", [*, *]]', 15) + variable("*a14"),
    "conditions": CONDITIONS + variable("!If [C59, a, b]"),
    "a chain of conditions": "Conditions:\n  C0: !Equals [a, a]\n"
    + "".join(f"  C{n}: !Not [!Condition C{n - 1}]\n" for n in range(1, 3000))
    + variable("!If [C2999, a, b]"),
    "a text many times": TEXT + variable("!Sub '" + "${P}" * 100_000 + "'"),
    "a delimiter many times": variable(f"!Join ['{'y' * 300_000}', [{'x,' * 10_000} x]]"),
    "references without an end": variable("!Sub '" + "${" * 400_000 + "'"),
    "more than CloudFormation takes": f"# {'x' * 1024 * 1024}\n{FUNCTION}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_template_that_comes_to_too_much_is_refused_soon(template: Template, text: str) -> None:
    """Some of these are a few lines and would take longer than anybody lives."""
    started = time.process_time()
    with pytest.raises(TemplateError) as raised:
        everything(template(text))
    assert re.fullmatch(r"('template\.yaml'|template\.yaml[:,]) [^\n]{,120}", str(raised.value))
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (properties("Timeout: !!int abc"), ": Tea.Timeout is a whole number, not 'abc'"),
        (properties("Timeout: !!float abc"), ": Tea.Timeout is a whole number, not 'abc'"),
        (properties("Timeout: !!timestamp abc"), ": Tea.Timeout is a whole number, not 'abc'"),
        (properties("Timeout: !!bool abc"), ", line 7: 'abc' is not true or false"),
        (properties("Timeout: !!map abc"), ", line 7: expected a mapping node, but found scalar"),
        *[
            (
                properties(f"Timeout: !!{tag} [a]"),
                f", line 7: could not determine a constructor for the tag 'tag:yaml.org,2002:{tag}'",
            )
            for tag in ("binary", "set", "omap", "pairs", "python/tuple")
        ],
        (properties("Timeout: " + "9" * 500), f": Tea.Timeout is a whole number, not '{'9' * 12}...{'9' * 13}'"),
        (properties("Timeout: " + "9" * 5000), f": Tea.Timeout is a whole number, not '{'9' * 12}...{'9' * 13}'"),
        (properties("CodeUri: " + "a" * 5000), f": Tea.CodeUri names a folder that is not there: '{'a' * 100}'"),
        (properties('CodeUri: "\\0"'), ": Tea.CodeUri names a folder that is not there: '\\x00'"),
        (variable('"\\0"'), ": Tea.Environment.Variables.A has a NUL in its value"),
        (variable('"\\ud800"'), ": Tea.Environment.Variables.A has characters that no text has"),
        (variable("x" * 140_000), ": Tea.Environment.Variables.A has more than 131,072 bytes"),
        (
            properties("Environment: {Variables: {A=B: c}}"),
            ": Tea.Environment.Variables.A=B has no name that a process can have",
        ),
        (
            FUNCTION.replace("python3.13", "!Ref AWS::Region"),
            ": Tea.Runtime is eu-west-1; only Python functions run here",
        ),
        (
            "Conditions: {A: !Condition A}\n" + properties("Timeout: !If [A, 1, 2]"),
            ": Tea.Timeout refers to itself",
        ),
    ],
)
def test_values_that_nothing_can_have_are_refused(template: Template, text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as raised:
        everything(template(text))
    assert str(raised.value) == f"template.yaml{complaint}"


@pytest.mark.parametrize("name", ["On", "Yes", "no", "null", "~", "1", "0x1f", "2001-01-01", "'a'"])
def test_a_logical_id_is_as_written(template: Template, name: str) -> None:
    text = FUNCTION.replace("Tea:", f"{name}:") + f"      Environment: {{Variables: {{{name}: !!int 09, A: =}}}}\n"
    function = template(text, name.strip("'"))
    assert function.variables() == ({name.strip("'"): "09", "A": "="}, {})


def test_100_levels_are_read(template: Template) -> None:
    """As deep as it may be, in every way that it is read."""
    negations = "!Not [" * 95 + "!Equals [a, b]" + "]" * 95
    deep = "{a: " * 90 + "b" + "}" * 90
    function = template(
        f"Conditions: {{C: {negations}}}\nGlobals: {{Function: {{Environment: {deep}, Timeout: 7}}}}\n"
        + FUNCTION.replace("Handler:", f"Environment: {deep}\n      Handler:")
        + '      MemorySize: !If [C, "'
        + '1769", 128]\n'
    )
    assert (function.memory(128), function.timeout, function.variables()) == (1769, 7, ({}, {}))


@pytest.mark.parametrize("option", ["--template", "--env-file"])
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "socket", "a name too long"])
def test_what_is_no_file_is_refused(
    option: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = {"device": "/dev/zero", "a name too long": "a" * 5000}.get(kind, "odd")
    if kind == "FIFO":
        os.mkfifo(name)
    elif kind == "folder":
        os.mkdir(name)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(name)
    with pytest.raises(SystemExit) as ended:
        parse(["main.handler", option, name])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("abT.:$!{}", max_size=6)),
    lambda values: st.one_of(
        st.lists(values, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "Ref", "Fn::If", "Fn::Join", "Fn::Select", "Fn::Sub", "Fn::GetAtt", "Default"]),
            values,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
NAMES = ["Handler", "CodeUri", "Timeout", "MemorySize", "Environment", "FunctionUrlConfig", "Runtime", "PackageType"]


@given(
    st.fixed_dictionaries(
        {
            "Resources": st.dictionaries(
                st.sampled_from("ab"),
                st.one_of(
                    st.fixed_dictionaries(
                        {
                            "Type": st.just("AWS::Serverless::Function"),
                            "Properties": st.dictionaries(st.sampled_from(NAMES), JSON),
                        }
                    ),
                    JSON,
                ),
                max_size=2,
            )
        },
        optional={"Globals": JSON, "Parameters": JSON, "Conditions": JSON},
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_template_is_read_or_refused(template: Template, value: dict[str, Any]) -> None:
    try:
        everything(template(yaml.safe_dump(value)))
    except TemplateError as error:
        assert len(str(error).splitlines()) == 1


@given(st.text(st.sampled_from("{}[]:,-!&*'\"#|>%@ \n\tab"), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_text_is_read_or_refused(template: Template, text: str) -> None:
    try:
        everything(template(f"{FUNCTION}      Environment: {text}"))
    except TemplateError as error:
        assert len(str(error).splitlines()) == 1


def test_options_win_over_the_template(template: Template) -> None:
    """And what they say need not be right in the template."""
    template(
        properties("CodeUri: nowhere\nTimeout: soon\nMemorySize: much\nFunctionUrlConfig: {InvokeMode: LIVE}").replace(
            "main.handler", "!Ref Cup"
        )
    )
    options = "other.handler --function Tea --app-dir . --timeout 9 --memory 256 --invoke-mode BUFFERED".split()
    configuration = parse(options).configuration
    assert (configuration.handler, configuration.app_dir) == ("other.handler", Path().resolve())
    assert (configuration.timeout, configuration.memory, configuration.invoke_mode) == (9, 256, "BUFFERED")


@pytest.mark.parametrize(
    ("text", "arguments", "complaint"),
    [
        ("Timeout: 901", "", "Timeout: Lambda's are up to 900 seconds (5400 with --concurrency), not 901"),
        (
            "Timeout: 5401",
            "--concurrency 2",
            "Timeout: Lambda's are up to 5400 seconds (900 without --concurrency), not 5401",
        ),
        (
            "MemorySize: 64",
            "",
            "MemorySize: Lambda's are from 128 to 10240 MB (2048 to 32768 with --concurrency), not 64",
        ),
        (
            "MemorySize: 512",
            "--concurrency 2",
            "MemorySize: Lambda's are from 2048 to 32768 MB (128 to 10240 without --concurrency), not 512",
        ),
    ],
)
def test_limits_hold_in_a_template_too(
    template: Template, text: str, arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    template(properties(text))
    with pytest.raises(SystemExit) as ended:
        parse(arguments.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"function-url: template.yaml: Tea.{complaint}\n"


@pytest.mark.parametrize(
    ("text", "arguments", "timeout", "memory"),
    [
        ("Timeout: 900\nMemorySize: 10240", "", 900, 10_240),
        ("Timeout: 5400\nMemorySize: 32768", "--concurrency 2", 5_400, 32_768),
        ("Tracing: Active", "", 3, 128),
        ("Tracing: Active", "--concurrency 2", 3, 2_048),
        ("Timeout: 5400\nMemorySize: 512", "--concurrency 2 --memory 2048", 5_400, 2_048),
        ("Timeout: 5400\nMemorySize: 32768", "--timeout 900 --memory 10240", 900, 10_240),
    ],
)
def test_a_template_may_say_what_managed_instances_allow(
    template: Template, text: str, arguments: str, timeout: int, memory: int
) -> None:
    template(properties(text))
    configuration = parse(arguments.split()).configuration
    assert (configuration.timeout, configuration.memory) == (timeout, memory)


def test_the_region_is_that_which_the_function_sees(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    template(properties("Environment: {Variables: {WHERE: !Ref AWS::Region}}"))
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert parse([]).configuration.settings == {"WHERE": "eu-north-1"}
    Path("local.env").write_text("AWS_REGION=eu-west-3\n")
    assert parse(["--env-file", "local.env"]).configuration.settings == {"WHERE": "eu-west-3"}


def test_a_handler_alone_reads_no_template(template: Template) -> None:
    template(properties("Timeout: 9"))
    assert parse(["other.handler"]).configuration.timeout == 30
    assert parse(["other.handler", "--template", "template.yaml"]).configuration.timeout == 9
