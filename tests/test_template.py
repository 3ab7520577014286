"""template.yaml: what `sam validate --lint` lets pass, a misspelt InvokeMode for one, and what has to fit the app."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms, `!Ref X`, as their long ones, `{"Ref": "X"}`."""


def intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        raise TypeError(node)
    if suffix == "GetAtt":
        value = value.split(".")
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


TemplateLoader.add_multi_constructor("!", intrinsic)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), TemplateLoader)
    return loaded


@pytest.fixture(scope="module")
def function(template: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = template["Resources"]["Function"]["Properties"]
    return properties


def test_the_function_url_streams(function: dict[str, Any]) -> None:
    assert function["FunctionUrlConfig"] == {"AuthType": {"Ref": "AuthType"}, "InvokeMode": "RESPONSE_STREAM"}


def test_who_may_call_is_a_choice_that_is_explained(template: dict[str, Any]) -> None:
    parameter = template["Parameters"]["AuthType"]
    assert parameter["AllowedValues"] == ["NONE", "AWS_IAM"]
    assert parameter["Default"] == "NONE"
    assert all(choice in parameter["Description"] for choice in parameter["AllowedValues"])
    assert template["Conditions"]["AnybodyMayCall"] == {"Fn::Equals": [{"Ref": "AuthType"}, "NONE"]}


def test_a_public_url_has_both_permissions_and_one_with_iam_has_none(template: dict[str, Any]) -> None:
    permissions = [item for item in template["Resources"].values() if item["Type"] == "AWS::Lambda::Permission"]
    assert all(permission["Condition"] == "AnybodyMayCall" for permission in permissions)
    assert sorted((permission["Properties"] for permission in permissions), key=lambda item: str(item["Action"])) == [
        {
            "FunctionName": {"Ref": "Function"},
            "Principal": "*",
            "Action": "lambda:InvokeFunction",
            "InvokedViaFunctionUrl": True,
        },
        {
            "FunctionName": {"Ref": "Function"},
            "Principal": "*",
            "Action": "lambda:InvokeFunctionUrl",
            "FunctionUrlAuthType": "NONE",
        },
    ]


def test_the_function_is_a_zip_on_a_managed_runtime(function: dict[str, Any]) -> None:
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["arm64"]
    assert function["Timeout"] == 30
    assert "PackageType" not in function
    assert "Layers" not in function


def test_the_handler_is_the_last_line_of_the_app(function: dict[str, Any]) -> None:
    module, name = function["Handler"].split(".")
    source = (ROOT / function["CodeUri"] / f"{module}.py").read_text()
    last = ast.parse(source).body[-1]
    assert ast.unparse(last) == f"{name} = StreamingAdapter(app, event_handler=on_event)"


def test_the_store_is_a_table_of_its_own_with_the_keys_that_the_app_uses(
    template: dict[str, Any], function: dict[str, Any]
) -> None:
    assert function["Environment"]["Variables"]["REPORTS_TABLE"] == {"Ref": "Reports"}
    assert function["Policies"] == [{"DynamoDBCrudPolicy": {"TableName": {"Ref": "Reports"}}}]
    table = template["Resources"]["Reports"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [("kind", "HASH"), ("id", "RANGE")]


def test_the_signing_secret_is_never_shown(template: dict[str, Any], function: dict[str, Any]) -> None:
    """A parameter has the secret's name. CloudFormation reads its value, by a dynamic reference:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-secretsmanager.html
    """
    assert template["Parameters"]["SlackSecretName"]["Default"] == ""
    assert template["Conditions"]["SlackSecretNamed"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "SlackSecretName"}, ""]}]}
    resolved = {"Fn::Sub": "{{resolve:secretsmanager:${SlackSecretName}}}"}
    value = function["Environment"]["Variables"]["SLACK_SIGNING_SECRET"]
    assert value == {"Fn::If": ["SlackSecretNamed", resolved, ""]}


def test_the_url_is_an_output(template: dict[str, Any]) -> None:
    assert template["Outputs"]["Url"]["Value"] == {"Fn::GetAtt": ["FunctionUrl", "FunctionUrl"]}


def test_every_reference_leads_to_something(template: dict[str, Any]) -> None:
    known = template["Parameters"].keys() | template["Resources"].keys()

    def references(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(references, value))
        if isinstance(value, dict):
            return ({value["Ref"]} if "Ref" in value else set()).union(*map(references, value.values()))
        return set()

    assert references(template) <= known
