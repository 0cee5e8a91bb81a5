"""Skill: classify a text in the message into one of the labels that the message names.

In: a random generator. Out: a set of labels in random order, a text of one to three phrases that speak for one of them, an
instruction. Sentiment, topics, urgency, sort of request, spam. Held out: wordings of the instruction, one phrase in four of
every label, and whole sets of labels (NEW …), whose phrases share few words with those of training.
"""

from __future__ import annotations

from functools import partial
from random import Random

from pipeline.skills.skill import Example, Maker, Skill
from pipeline.skills.texts.given_text import add_demand, gives_answer, lay_out, make_text_example, make_text_examples

# fmt: off
SENTIMENT = {
    "positive": ("I love it", "it works perfectly", "great quality", "the staff were friendly", "I am very happy with it",
                 "a wonderful evening", "best purchase this year",
                 "it arrived early and looks beautiful", "I would buy it again", "delicious food", "an excellent book",
                 "the room was clean and quiet", "my kids enjoy it every day",
                 "fast and helpful service", "I can only recommend it", "it made my life easier", "a pleasure to use",
                 "the concert was amazing", "good value for the money",
                 "the new version is much better", "I was pleasantly surprised", "everything went smoothly",
                 "nice colors and a bright screen", "five stars from me"),
    "negative": ("I hate it", "it broke after two days", "terrible quality", "the staff were rude", "I am very disappointed",
                 "a boring evening", "a waste of money",
                 "it arrived late and damaged", "I want my money back", "the food was cold", "a dull book",
                 "the room was dirty and loud", "it stopped working at once",
                 "slow and unhelpful service", "I can't recommend it", "it only caused trouble", "awful to use",
                 "the concert was bad", "far too expensive",
                 "the new version is much worse", "nobody answered my calls", "everything went wrong",
                 "the screen is scratched and dark", "never again"),
    "neutral": ("it arrived on Tuesday", "the box contains a manual", "it has four buttons", "the shop opens at nine",
                "it is made of plastic", "the book has 300 pages",
                "I ordered the blue one", "it weighs two kilos", "the hotel is near the station", "there are two versions",
                "it comes with a cable", "the invoice was sent by mail",
                "the film runs for two hours", "it replaces the old model", "the restaurant has thirty seats",
                "the next update is in May"),
}
TOPICS = {
    "sports": ("the team won the final", "the striker scored twice", "the coach changed the lineup",
               "she ran the marathon in record time", "the match ended in a draw",
               "the goalkeeper was injured", "the league starts in August", "he won the tennis tournament"),
    "politics": ("the parliament passed the law", "the minister resigned", "the election is in May",
                 "the president signed the treaty", "voters rejected the plan",
                 "the senate debates the budget", "the party chose a new leader", "the mayor announced her campaign"),
    "weather": ("rain is expected in the north", "tomorrow will be sunny and warm", "a storm is coming from the west",
                "snow fell in the mountains", "it stays cloudy until evening",
                "temperatures drop below zero", "fog in the morning", "strong wind along the coast"),
    "finance": ("the stock price fell", "the bank raised interest rates", "profits grew by ten percent",
                "investors sold their shares", "inflation slowed down",
                "the company reported a loss", "the market closed higher", "a new tax on dividends"),
    "health": ("the vaccine protects children", "doctors advise more sleep", "the patient has a fever",
               "the hospital opens a new ward", "a diet with less sugar",
               "the nurse measured his blood pressure", "the flu is spreading", "the surgery went well"),
    "technology": ("the new phone has a faster chip", "the app got an update", "engineers built a robot",
                   "the software has a bug", "the laptop battery lasts ten hours",
                   "the website was offline", "a startup trains language models", "the server moved to the cloud"),
    "food": ("bake the cake for an hour", "the soup needs more salt", "a recipe with fresh tomatoes",
             "the chef roasted the chicken", "serve the pasta with cheese",
             "add butter and flour", "the bakery sells dark bread", "grill the fish with lemon"),
    "travel": ("the flight to Rome leaves at noon", "we booked a hotel by the sea", "the train to Paris was full",
               "pack your passport", "a tour of the old town",
               "the island has quiet beaches", "the guide showed us the castle", "rent a car at the airport"),
}
REQUESTS = {
    "bug": ("the app crashes when I click save", "an error appears after login", "the page does not load",
            "the total is calculated wrong", "the button does nothing", "the export is empty"),
    "feature request": ("please add a dark mode", "it would be nice to sort the list", "could you support CSV export",
                        "I wish there were a search box", "please allow two accounts", "an offline mode would help"),
    "question": ("how do I change my password", "where can I find my invoices", "what does the red icon mean",
                 "is there a free plan", "when is support available", "which browsers work"),
    "complaint": ("I have waited for three weeks", "nobody answers my mails", "this is unacceptable",
                  "I was charged twice and I am angry", "your service is a joke", "I demand a refund"),
}
URGENCY = {
    "urgent": ("the server is down right now", "we need this today", "please call me immediately",
               "customers can't pay at the moment", "the deadline is in one hour", "this is an emergency"),
    "not urgent": ("whenever you have time", "no rush at all", "sometime next month is fine", "just an idea for later",
                   "it can wait until spring", "for your information only"),
}
SPAM = {
    "spam": ("you won a free prize, click here", "cheap pills without a prescription", "earn money from home fast",
             "claim your reward now", "act now, limited offer", "send your bank details to get the gift"),
    "not spam": ("the meeting is moved to Friday", "here are the notes from yesterday", "can you review my draft",
                 "lunch at twelve?", "your package was delivered", "thanks for your help with the report"),
}
TASKS = (
    (SENTIMENT, (("positive", "negative"), ("positive", "negative"), ("positive", "negative", "neutral"))),
    (TOPICS, ()),
    (TOPICS, ()),
    (REQUESTS, ()),
    (URGENCY, (("urgent", "not urgent"),)),
    (SPAM, (("spam", "not spam"),)),
)
NEW_TASKS = (
    ({"good": SENTIMENT["positive"], "bad": SENTIMENT["negative"]}, (("good", "bad"),)),
    ({"happy": SENTIMENT["positive"], "unhappy": SENTIMENT["negative"]}, (("happy", "unhappy"),)),
    ({"music": ("the band plays a new song", "the violin was out of tune", "the choir sang", "her album has ten tracks"),
      "science": ("the telescope found a planet", "researchers measured the cells", "the experiment failed twice",
                  "a theory of gravity"),
      "sports": TOPICS["sports"], "weather": TOPICS["weather"], "food": TOPICS["food"]}, ()),
)
INSTRUCTIONS = (
    "Classify this text as {l}", "Is this text {l}?", "Classify the following as {l}", "Which label fits: {l}?",
    "Label the text as {l}", "Classify into {l}",
    "Is the following {l}?", "Choose one of the labels {l}", "Which category is this: {l}?", "Categorize this message as {l}",
    "Is this {l}?",
    "Decide whether this is {l}", "What is this, {l}? Choose one category",
    "Classify this message into one of these classes: {l}",
    "Which of these labels describes the text best: {l}?", "Assign a label to the text: {l}",
)
NEW_INSTRUCTIONS = ("Would you label this {l}?", "Pick the right category for the text: {l}", "Sort this into {l}",
                    "Tell me whether this message is {l}")
SENTIMENT_ONLY = ("What is the sentiment of this text?", "Sentiment of this review", "Determine the sentiment of the text")
OPENINGS = ("", "", "", "Hi, ", "Well, ", "Honestly, ", "Note: ")
# fmt: on


def make_classification(rng: Random, is_new: bool) -> Example | None:
    """Return one text with its labels; None if the message can't be read as a classification."""
    phrases, sets = rng.choice(NEW_TASKS if is_new and rng.random() < 0.5 else TASKS)
    labels = list(rng.choice(sets)) if sets else rng.sample(list(phrases), rng.randint(2, min(4, len(phrases))))
    rng.shuffle(labels)
    right = rng.choice(labels)
    if phrases is SENTIMENT and len(labels) > 2 and rng.random() < 0.3:
        instruction = rng.choice(SENTIMENT_ONLY)
    else:
        instruction = rng.choice(NEW_INSTRUCTIONS if is_new else INSTRUCTIONS).format(l=_enumerate(labels, rng))
    instruction, answer = add_demand(instruction, right, rng)
    text = _write_text(phrases[right], rng, is_new)
    return make_text_example("classification", lay_out(instruction, text, rng, is_new), answer)


def _enumerate(labels: list[str], rng: Random) -> str:
    style = rng.random()
    if style < 0.15:
        return ", ".join(labels)
    if style < 0.25:
        return " / ".join(labels)
    comma = "," if len(labels) > 2 and rng.random() < 0.5 else ""
    return f"{', '.join(labels[:-1])}{comma} or {labels[-1]}"


def _write_text(phrases: tuple[str, ...], rng: Random, is_new: bool) -> str:
    """Return one to three of the phrases of a label as sentences; held out, of those that training does not see."""
    own = [phrase for number, phrase in enumerate(phrases) if (number % 4 == 3) == is_new]
    chosen = rng.sample(list(own), min(len(own), rng.choice((1, 1, 2, 2, 3))))
    opening = rng.choice(OPENINGS)
    text = ". ".join(each[0].upper() + each[1:] for each in chosen) if rng.random() < 0.7 else " and ".join(chosen)
    text = opening + (text if not opening or text.startswith("I ") else text[0].lower() + text[1:])
    return text + rng.choice((".", "", "!", "."))


CLASSIFICATION = Skill(
    name="classification_right",
    title="Classification into named labels",
    meaning="sentiment, topic, urgency, sort of request; a part with labels and phrases that training never saw",
    max_drop=0.09,  # 200 items
    applies=lambda item: item.kind == "classification",
    is_right=gives_answer,
    makers=(Maker("classification", "classification", partial(make_text_examples, make_classification)),),
)
