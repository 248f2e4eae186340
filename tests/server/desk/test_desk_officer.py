"""The officer's view in a real browser: by keyboard alone, caps, sliders, replay, link, and what goes wrong."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise

import pytest


def fact(page, name):
    """The value beside a name in the summary."""
    return page.locator(".pairs div", has=page.locator(f"dt:text-is('{name}')")).locator("dd").inner_text()


def slide(page, label, key, times):
    """Moves a slider by keyboard."""
    page.get_by_label(label, exact=True).focus()
    for _ in range(times):
        page.keyboard.press(key)


def compared(page):
    """The comparison's rows: name to values before and after."""
    script = "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    cells = page.locator(".compared tbody tr").evaluate_all(script)
    return {name: (before, after.removesuffix(" changed")) for name, before, after in cells}


def test_from_the_key_to_the_replay_by_keyboard_alone(site, open_tab):
    page = open_tab().page
    person = site.person("limited")
    page.goto(f"{site.url}/desk/#lang=en")
    page.wait_for_selector("input[name=key]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"  # the skip link

    def reach(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", selector
                return
        raise AssertionError(f"Tab does not lead to {selector}")

    reach("input[name=key]")
    page.keyboard.type(site.keys["officer"])
    page.keyboard.press("Enter")
    page.wait_for_selector("#reference")
    reach("#reference")
    page.keyboard.type(person["subject_ref"])
    page.keyboard.press("Enter")
    page.wait_for_selector("#decision")
    assert page.evaluate("document.activeElement.id") == "found"
    reach("#replay")
    page.keyboard.press("Enter")
    page.wait_for_selector(".replayed")
    assert page.evaluate("document.activeElement.className").startswith("replayed")
    told = site.call("POST", f"/v1/decisions/{person['decision_id']}/replay", {})
    assert told["identical"]
    assert page.locator(".replayed code").last.inner_text() == told["sha256"]


def test_each_kind_of_reference_finds_the_decision_with_its_pd(site, open_tab):
    person = site.person("limited")
    page = open_tab().officer(person["subject_ref"])
    for named_by in ("decision_id", "request_id"):
        page.fill("#reference", person[named_by])
        with page.expect_response("**/v1/subjects/**"):
            page.keyboard.press("Enter")
        page.wait_for_function("() => document.activeElement.id === 'found'")
        assert page.locator(".headline code").inner_text() == person["decision_id"]
    decision = site.call("GET", f"/v1/decisions/{person['decision_id']}")["decision"]
    assert fact(page, "PD") == f"{decision['pd_bp'] / 100:g}%"
    assert fact(page, "PD, upper") == f"{decision['pd_upper_bp'] / 100:g}%"
    assert fact(page, "Margin").startswith(f"{decision['margin_e6'] / 1e6:.2f} log-odds")
    assert fact(page, "Confidence") == decision["confidence"]


def test_the_caps_are_sorted_and_the_one_that_set_the_amount_is_marked_with_its_share(site, open_tab):
    page = open_tab().officer(site.person("limited")["decision_id"])
    decision = site.call("GET", f"/v1/decisions/{site.person('limited')['decision_id']}")["decision"]
    caps = page.locator(".caps tbody tr code").all_inner_texts()
    assert caps == sorted(decision["caps"], key=decision["caps"].__getitem__)
    marked = page.locator(".caps tr.binding").all_inner_texts()
    assert [("SHARE" in row, "sets the amount" in row) for row in marked] == [(True, True), (False, False)]
    assert "AFFORDABILITY" in marked[1]
    assert decision["binding_cap"] == "AFFORDABILITY"
    said = page.inner_text(".caps")
    assert "90% is granted" in said
    assert f"that gives ¥{decision['amount_fen'] // 100:,}." in said


def test_sliders_decide_again_live_and_the_start_is_found_again(site, open_tab):
    person = site.person("limited")
    page = open_tab().officer(person["decision_id"])
    before = site.call("GET", f"/v1/decisions/{person['decision_id']}")["decision"]
    slide(page, "Income a month", "ArrowRight", 10)
    slide(page, "Payments record", "ArrowRight", 4)
    changes = {
        "kyc.income_fen_month": 900_000,
        "blocks.payments.logit_e6": -round(20 * 1e6 * 0.6931471805599453 / 60),
    }
    path = f"/v1/decisions/{person['decision_id']}/what-if"
    after = site.call("POST", path, {"changes": changes})["decision"]
    page.wait_for_selector(f".compared tr:has-text('{before['score']}'):has-text('{after['score']}')")  # of both moves
    rows = compared(page)
    assert rows["Limit"] == (f"¥{before['amount_fen'] // 100:,}", f"¥{after['amount_fen'] // 100:,}")
    assert rows["Score"] == (str(before["score"]), str(after["score"]))
    assert rows["PD"] == (f"{before['pd_bp'] / 100:g}%", f"{after['pd_bp'] / 100:g}%")
    assert after["amount_fen"] > before["amount_fen"]
    page.get_by_label("Income is").select_option("verified")
    page.wait_for_function("was => !document.querySelector('.compared').innerText.includes(was)", arg=rows["Limit"][1])
    page.click("text=Back to the start")
    page.wait_for_selector("text=Nothing is changed yet.")
    assert page.locator(".compared").count() == 0
    assert page.get_by_label("Income a month", exact=True).input_value() == "8000"


def test_a_person_s_decisions_events_and_appeals_are_listed_and_an_older_decision_can_be_shown(site, open_tab):
    person = site.person("trial", "-told")
    ref, first = person["subject_ref"], person["decision_id"]
    at = site.service.clock()
    told = {"event_id": "ev-1", "kind": "accepted", "at": at.isoformat(), "decision_id": first}
    site.call("POST", f"/v1/accounts/{ref}/events", told, "service")
    paid = {"event_id": "ev-2", "kind": "paid", "cycle": 1, "used_bp": 6000, "outstanding_days": 20}
    site.call("POST", f"/v1/accounts/{ref}/events", paid | {"at": (at - timedelta(days=1)).isoformat()}, "service")
    second = site.call("POST", f"/v1/accounts/{ref}/review", {}, "service")["decision_id"]
    site.call("POST", "/v1/appeals", {"decision_id": second, "grounds": "a closer look"})
    tab = open_tab()
    page = tab.officer(ref)
    assert page.locator(".headline code").inner_text() == second
    assert (fact(page, "Cause"), fact(page, "Follows")) == ("review", first)
    assert "statement paid" in page.inner_text(".person")
    assert "60% of the limit used" in page.inner_text(".person")
    appeal = page.locator(".person .named tbody tr").last.inner_text()
    assert "open" in appeal
    assert "Dec 13, 2026" in appeal
    page.click(f".person button:has-text('{first[:10]}')")
    page.wait_for_function("id => document.querySelector('.headline code').textContent === id", arg=first)
    assert page.evaluate("document.activeElement.id") == "decision"
    page.click("text=Show the newer one")
    page.wait_for_function("id => document.querySelector('.headline code').textContent === id", arg=second)


def test_the_applicants_page_opens_from_the_link_in_a_tab_of_its_own(site, open_tab):
    page = open_tab().officer(site.person("score")["decision_id"])
    page.click("#link")
    page.wait_for_selector(".linked")
    assert "fa_" in page.input_value(".linked input")
    with page.context.expect_page() as opened:
        page.click(".linked a")
    preview = opened.value
    preview.wait_for_selector(".hero")
    assert preview.inner_text("h1") == "No limit: the score is below the line"
    assert not [key for key in site.keys.values() if key in preview.evaluate("JSON.stringify({...sessionStorage})")]
    assert page.inner_text("#who").startswith("officer-1")


def test_a_slow_answer_to_an_older_question_is_not_shown(site, open_tab):
    tab, held = open_tab(), []
    page = tab.officer()
    slow, quick = site.person("score"), site.person("trial")
    page.route(f"**/v1/subjects/{slow['subject_ref']}", lambda route: held.append(route))
    for person in (slow, quick):
        page.fill("#reference", person["subject_ref"])
        with page.expect_request("**/v1/subjects/**"):
            page.keyboard.press("Enter")
    page.wait_for_selector(f"#found:has-text('{quick['subject_ref']}')")
    with page.expect_response(f"**/v1/decisions/{slow['decision_id']}"):
        held[0].continue_()
    page.click("[data-language=zh]")
    page.wait_for_selector("h1:text-is('查找决定')")
    assert page.inner_text("#found code") == quick["subject_ref"]


def test_logging_out_forgets_the_key_and_nothing_outlives_the_tab(site, open_tab):
    tab = open_tab()
    page = tab.officer()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.click("text=Log out")
    page.wait_for_selector("text=You are logged out.")
    assert "fs_" not in page.evaluate("JSON.stringify({...sessionStorage})") + page.content()
    page.reload()
    page.wait_for_selector("input[name=key]")
    other = tab.page.context.new_page()
    other.goto(f"{site.url}/desk/")
    other.wait_for_selector("input[name=key]")


def test_a_reference_that_nobody_has_is_told_and_stays_text(site, open_tab):
    page = open_tab().officer()
    for reference in (
        "f" * 64,
        "<script>window.hit = 1</script>",
        "'\"><img src=x onerror='window.hit = 1'>",
        "../me?q=%00",
    ):
        page.fill("#reference", reference)
        with page.expect_response("**/v1/search**"):
            page.keyboard.press("Enter")
        page.wait_for_selector("text=Nothing is known by that reference")
        assert page.input_value("#reference") == reference
        assert page.evaluate("[window.hit, document.querySelectorAll('main img, main script').length]") == [None, 0]
        assert page.evaluate("[document.activeElement.id, document.activeElement.tabIndex]") == ["reference", 0]


def test_keys_that_are_wrong_or_of_another_role_are_told(site, open_tab):
    page = open_tab().page
    page.goto(f"{site.url}/desk/#lang=zh")
    for key, said in (("", "请先输入密钥"), ("fs_wrong", "密钥无效或已失效"), (site.keys["service"], "没有可用页面")):
        page.fill("input[name=key]", key)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"text={said}")
    assert page.locator("#who").inner_text() == ""


def test_an_auditor_may_replay_but_has_no_link_and_no_sliders(site, open_tab):
    page = open_tab().officer(site.person("approved")["decision_id"], role="auditor")
    assert (page.locator("#link").count(), page.locator(".sliders").count()) == (0, 0)
    page.click("#replay")
    page.wait_for_selector("text=Identical, byte for byte")


@pytest.mark.parametrize("name", ["limited", "trial", "score", "late", "person"])
def test_each_outcome_is_shown_in_both_languages_on_both_sizes(name, site, open_tab):
    tab = open_tab()
    page = tab.officer(site.person(name)["decision_id"], "zh")
    for lang in ("zh", "en"):
        if lang == "en":
            slide(page, "申请资料记录", "ArrowRight", 2)
            page.wait_for_selector(".compared")
            page.click("[data-language=en]")
            page.wait_for_selector("h1:text-is('Find a decision')")
            assert page.locator(".compared").count() == 1
        assert tab.foreign(lang) == []
        if (name, lang) in (("limited", "en"), ("late", "zh")):
            assert tab.serious() == []
        for size, width in (("desktop", 1200), ("phone", 360)):
            page.set_viewport_size({"width": width, "height": 800})
            assert tab.overflow() == 0
            tab.shoot(f"officer-{name}-{lang}-{size}")


def test_the_way_in_is_for_everybody_and_headings_are_in_order(site, open_tab):
    tab = open_tab(width=360, color_scheme="dark")
    tab.page.goto(f"{site.url}/desk/#lang=zh")
    tab.page.wait_for_selector("h1")
    assert (tab.foreign("zh"), tab.serious(), tab.overflow()) == ([], [], 0)
    tab.shoot("officer-login-zh-phone")
    page = tab.officer(site.person("trial")["decision_id"])
    assert tab.serious() == []
    levels = [int(tag[1]) for tag in page.locator("h1, h2, h3, h4").evaluate_all("all => all.map((h) => h.tagName)")]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [page.locator(landmark).count() for landmark in ("header", "main", "footer", "[role=search]")] == [1] * 4
    assert not re.search(r"\{\w+\}|undefined|NaN|\[object", tab.words())
