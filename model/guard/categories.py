"""The categories of the guard: their names in policies, scores and reports, and what each covers. Standard library only."""

from __future__ import annotations

CATEGORIES: dict[str, str] = {
    "weapons": "making, getting or using weapons, explosives, poisons and agents of mass harm",
    "violence": "hurting, threatening or abducting people and animals",
    "drugs": "making, getting or selling illegal drugs",
    "self_harm": "suicide, self-injury, eating disorders, and messages of people in such a crisis",
    "intrusion": "malware, breaking into accounts and systems, attacks on networks",
    "fraud": "theft, fraud, forgery, money laundering, tax evasion, cheating",
    "hate": "slurs, stereotypes and claims against groups, bullying and harassment",
    "sexual": "sexual content and coercion",
    "minors": "anything sexual with minors",
    "privacy": "private data of people, stalking and surveillance, secrets of organizations",
    "extremism": "terrorism, violent extremism and its propaganda, illegal immigration and trafficking of people",
    "advice": "medical, legal and financial advice that endangers those who follow it",
    "deception": "disinformation, conspiracy theories, propaganda and manipulation",
    "persona": "treating the assistant as a human: its feelings, body, private life; romance and dependence",
    "injection": "orders to the assistant in what it reads, and attempts to change or reveal its rules",
}
HARM = "harm"  # the score for harm of any category but injection and persona
NOT_HARM = ("persona", "injection")
OUTPUTS = (*CATEGORIES, HARM)  # `harm` is last
