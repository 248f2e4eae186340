"""The applicant's view in a real browser: each outcome in both languages, what-if, appeal, and what goes wrong."""

from __future__ import annotations

import json
import re

import pytest

SECRET = ("pd_bp", "pd_upper_bp", "z_e6", "margin_e6", '"caps"', "logit_e6")
# Each person's title in both languages, and which of the three checks decided: record, score, data.
OUTCOMES = {
    "approved": ("The limit is approved", "额度已批准", None),
    "limited": ("The limit is approved", "额度已批准", None),
    "trial": ("A small limit to start with", "先从小额额度开始", 0),
    "seasoned": ("Approved: a first part of the limit", "已批准：先开放部分额度", 0),
    "thin": ("No limit yet: too little record", "暂无额度：可用资料太少", 0),
    "score": ("No limit: the score is below the line", "暂无额度：评分未达到要求", 1),
    "late": ("No answer yet: data is late", "尚未决定：数据延迟", 2),
    "person": ("A person is looking at this", "正在人工复核", None),
    "rule": ("No limit: a rule is not met", "暂无额度：有一项规则未满足", None),
}
# axe takes most of a second: it sees each kind of page in one language and size.
AXE = {("approved", "zh"), ("trial", "en"), ("thin", "zh"), ("score", "en"), ("late", "zh")}


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_outcome_is_told_in_both_languages_to_everybody_and_without_a_pd(name, site, open_tab):
    tab = open_tab()
    page = tab.applicant(site.link(name), "zh")
    english, chinese, decided = OUTCOMES[name]
    for lang, title, width in (("zh", chinese, 1200), ("en", english, 360)):
        if lang == "en":
            page.click("[data-language=en]")
        page.wait_for_function("title => document.querySelector('h1')?.textContent === title", arg=title)
        page.set_viewport_size({"width": width, "height": 800})
        assert page.get_attribute("html", "lang") == {"zh": "zh-CN", "en": "en-GB"}[lang]
        marked = page.evaluate("[...document.querySelectorAll('.check')].map((c) => c.classList.contains('decides'))")
        assert marked == [decided == at for at in range(3)]
        assert tab.foreign(lang) == []
        if (name, lang) in AXE:
            assert tab.serious() == []
        assert not re.search(r"\bPD\b|违约", tab.words())
        for size, wide in (("desktop", 1200), ("phone", 360)):
            page.set_viewport_size({"width": wide, "height": 800})
            assert tab.overflow() == 0
            tab.shoot(f"applicant-{name}-{lang}-{size}")
    told = page.content() + "".join(answer.text() for answer in tab.answers)
    assert [word for word in SECRET if word in told] == []


def test_the_three_complaints_differ_in_words_shape_and_colour(site, open_tab):
    page, seen = open_tab().page, []
    for name in ("thin", "score", "late"):
        page.goto(f"{site.url}/desk/#t={site.link(name)}&lang=en")
        page.wait_for_function("title => document.querySelector('h1')?.textContent === title", arg=OUTCOMES[name][0])
        drawn = page.get_attribute(".hero-icon path", "d")
        colour = page.evaluate("getComputedStyle(document.querySelector('.hero-icon')).color")
        seen.append((page.inner_text(".check.decides .check-value"), drawn, colour))
    assert [value for value, _, _ in seen] == ["Too little so far", "Below the line", "Late"]
    assert all(len(set(column)) == 3 for column in zip(*seen, strict=True))


def test_a_wait_says_until_when_and_instants_and_amounts_are_written_for_people_and_machines(site, open_tab):
    page = open_tab().applicant(site.link("late"))
    deadline = page.locator(".amount time")
    assert deadline.get_attribute("datetime").startswith("2026-11-26T10:00:00")
    assert deadline.inner_text() == "Nov 26, 2026 10:00 (UTC+08:00)"
    given = [step["amount_fen"] // 100 for step in site.person("late")["decision"]["next_steps"]]
    assert page.locator(".gives strong").all_inner_texts() == [f"¥{amount:,}" for amount in given]


def test_the_ladder_and_the_costs_are_those_of_the_decision(site, open_tab):
    page = open_tab().applicant(site.link("trial"))
    decision = site.person("trial")["decision"]
    assert "0 of 2 payments on time" in page.inner_text(".cycles")
    assert page.locator(".rungs [aria-current=step]").inner_text().split("\n")[:2] == ["Step 1", "¥500"]
    interest = next(row for row in decision["costs"] if row["code"] == "interest")["total_fen"]
    assert f"¥{interest / 100:.2f}" in page.inner_text("tr.sum")
    page.click("summary")
    parts = page.locator("details tbody tr").evaluate_all("rows => rows.map((row) => row.cells[2].textContent)")
    assert len(parts) == decision["term_months"]
    assert sum(round(float(part.strip("¥")) * 100) for part in parts) == decision["amount_fen"]


def test_what_if_shows_before_and_after_and_stores_nothing(site, open_tab):
    page = open_tab().applicant(site.link("late"))
    ref = site.person("late")["subject_ref"]
    before = site.call("GET", f"/v1/subjects/{ref}")["decisions"]
    page.click(".try button[type=submit]")
    assert "Enter a number" in page.inner_text(".try [role=status]")
    page.fill("input[name=amount]", "5000")
    page.check("#decide-now")
    page.click(".try button[type=submit]")
    page.wait_for_selector(".compared")
    rows = page.locator(".compared tbody tr").all_inner_texts()
    assert rows[0].split("\t") == ["Outcome", "Waits for data", "Approved changed"]
    assert rows[1].split("\t") == ["Limit", "¥0", "¥5,000 changed"]
    assert page.evaluate("document.activeElement.textContent") == "It would be"
    assert site.call("GET", f"/v1/subjects/{ref}")["decisions"] == before


def test_refusals_of_a_what_if_are_told_in_words_with_what_to_do(site, open_tab):
    page = open_tab().applicant(token := site.link("score", "-often"))
    path = f"/v1/decisions/{site.person('score', '-often')['decision_id']}/what-if"
    page.fill("input[name=amount]", "99999999999999")
    page.click(".try button[type=submit]")
    page.wait_for_selector(".try .trouble")
    assert "did not accept what was entered" in page.inner_text(".try .trouble")
    assert page.inner_text(".try .trouble code") == "requested_fen"
    for _ in range(59):
        site.call("POST", path, {"changes": {"requested_fen": 100_000}}, token)
    page.fill("input[name=amount]", "1000")
    page.click(".try button[type=submit]")
    page.wait_for_selector("text=Too many tries within a minute. Wait")
    page.context.set_offline(True)
    page.click(".try button[type=submit]")
    page.wait_for_selector("text=The service cannot be reached")


def test_an_appeal_is_received_with_its_number_and_date(site, open_tab):
    page = open_tab().applicant(site.link("score", "-appeal"))
    page.click(".rights button[type=submit]")
    assert "Write a few words first" in page.inner_text(".rights [role=status]")
    page.fill(".rights textarea", "The failed debits\nwere the bank's error. <b>Look</b>")
    page.click(".rights button[type=submit]")
    page.wait_for_selector("#appeal-received")
    listed = site.call("GET", f"/v1/subjects/{site.person('score', '-appeal')['subject_ref']}")["appeals"]
    assert [one["appeal_id"] for one in listed] == [page.inner_text("#appeal-received code")]
    assert page.get_attribute("#appeal-received time", "datetime") == listed[0]["due_at"]
    page = open_tab().applicant(site.link("score", "-appeal"), "zh")
    page.fill(".rights textarea", "再次")
    page.click(".rights button[type=submit]")
    page.wait_for_selector("text=该操作已完成")


def test_an_expired_link_says_so_and_shows_nothing(site, open_tab):
    tab = open_tab(width=360)
    page = tab.applicant(site.expired_link("approved"), "zh")
    for lang, said in (("zh", "链接已过期或无效"), ("en", "This link has expired or is not valid")):
        page.click(f"[data-language={lang}]")
        page.wait_for_selector(f"[role=alert] :text('{said}')")
        assert page.locator(".hero").count() == 0
        assert (tab.foreign(lang), tab.overflow()) == ([], 0)
        tab.shoot(f"applicant-expired-{lang}-phone")
    assert tab.serious() == []


def test_a_link_leaves_no_trace_in_the_address_and_closing_forgets_it(site, open_tab):
    page = open_tab().applicant(site.link("approved"))
    assert page.evaluate("location.href") == f"{site.url}/desk/"
    page.reload()
    page.wait_for_selector(".hero")
    page.click("#who button")
    page.wait_for_selector("text=Access is closed")
    assert "fa_" not in page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
    page.reload()
    page.wait_for_selector("input[name=key]")


def test_changing_the_language_changes_every_text_and_keeps_what_was_written(site, open_tab):
    tab = open_tab()
    page = tab.applicant(site.link("late"), "en")
    page.fill("input[name=amount]", "5000")
    page.click(".try button[type=submit]")
    page.wait_for_selector(".compared")
    page.fill(".rights textarea", "123")
    page.click("[data-language=zh]")
    page.wait_for_selector("text=尚未决定：数据延迟")
    assert (tab.foreign("zh"), page.title()) == ([], "fedscore · 额度台")
    assert (page.input_value("input[name=amount]"), page.input_value(".rights textarea")) == ("5000", "123")
    assert page.locator(".compared").count() == 1
    page.reload()
    page.wait_for_selector("text=尚未决定：数据延迟")
    page.click("[data-language=en]")
    page.wait_for_selector("text=No answer yet: data is late")
    assert tab.foreign("en") == []


def test_a_newer_decision_is_offered_and_shown(site, open_tab):
    token = site.link("approved", "-again")
    ref = site.person("approved", "-again")["subject_ref"]
    site.call("DELETE", f"/v1/subjects/{ref}/consents/payments", None, "service")
    page = open_tab().applicant(token)
    page.click("text=Show the newer one")
    page.wait_for_selector("text=not agreed to")
    assert page.locator("text=There is a newer decision").count() == 0
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_texts_from_outside_stay_text(site, open_tab):
    """What a partner or a lender might send as text is shown as it is, and nothing of it runs."""
    tab, hostile = open_tab(), "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"

    def tampered(route):
        answer = route.fetch()
        body = answer.json()
        body["decision"]["reasons"][0]["en"] = hostile
        body["decision"]["versions"]["policy_id"] = hostile
        route.fulfill(response=answer, body=json.dumps(body))

    decision_id = site.person("score")["decision_id"]
    tab.page.route(re.compile(f"/v1/decisions/{decision_id}$"), tampered)
    page = tab.applicant(site.link("score"))
    assert page.locator(".said").first.inner_text() == hostile
    assert hostile in page.locator(".applicant > .hint").inner_text()
    assert page.evaluate("[window.hit, document.querySelectorAll('main img, main script').length]") == [None, 0]


def test_dark_and_printed_pages_can_be_read(site, open_tab):
    tab = open_tab(color_scheme="dark")
    page = tab.applicant(site.link("late"))
    assert tab.serious() == []
    tab.shoot("applicant-late-en-dark")
    page.emulate_media(media="print", color_scheme="light")
    assert page.locator(".try").is_hidden()
    assert page.locator(".hero").is_visible()
