# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: eDIF
#     language: python
#     name: edif
# ---

# %% [markdown]
# # Teaching with it: a course, an assignment, a lab hour
#
# **Goal.** Prepare a course before the first student comes: a roster that is taken over whole, an assignment whose hidden
# tests are worth something, a lab hour that the machine can bear. **Time.** Half an hour, of which the model computes some
# seconds. **You need** [00_hello](00_hello.ipynb), and to be an instructor of a course; to try things out, nothing: this
# notebook changes no course. It makes two files that you send in on the page *Courses*.
#
# Who makes the course? An operator (`edif course new`), or you, if your group may. From then on everything is on the
# course's page.

# %%
import csv
import io
import json

import edif
from nnsight import TransformersModel

from edif_courses.nbgrader_format import points, student_version
from edif_courses.roster_file import read_roster

MODEL = "edif/smollm2-135m-demo"  # the only line to change for another model of edif.models()
model = TransformersModel(MODEL, task="text-generation")

# %% [markdown]
# The two functions of `edif_courses` are those that the pages use: what they say here is what the page will say.
#
# ## 1. A course: who is in it
#
# There are three ways in, side by side: a CSV file, a link, Moodle. The file is for people whose account names you know. Its first
# line names the columns; commas, semicolons and tabs are understood, and the encodings that Excel writes.

# %%
PEOPLE = [("ada", "Ada Lovelace", "instructor"), ("emmy", "Emmy Noether", "student"), ("kurt", "Kurt Gödel", "student")]
text = io.StringIO()
csv.writer(text, lineterminator="\n").writerows([("account", "name", "role"), *PEOPLE])
with open("roster.csv", "w", encoding="utf-8") as file:
    file.write(text.getvalue())

roster = read_roster(text.getvalue().encode())
for person in roster.entries:
    print(f"{person.account:6} {person.name:14} {person.role}")
print("problems:", roster.problems)

# %% [markdown]
# Expected: three people and no problem.
#
# > **What do you expect?** One line of two hundred is wrong. Are the other 199 taken over?

# %%
wrong = read_roster("Benutzername;Vorname;Nachname;Rolle\nemmy;Emmy;Noether;\nkurt;Kurt;Gödel;Dekan\n".encode("cp1252"))
print(len(wrong.entries), "could be read;", wrong.problems)

# %% [markdown]
# Expected: one could be read, and line 3 is named: *the role 'dekan' is none: write student or instructor.* **With a wrong line
# nobody is taken over.** Half a class that is in and half that is not is worse than a file sent twice.
#
# ## 2. An assignment: what is handed out and what is not
#
# An assignment is a notebook in nbgrader's format (Project Jupyter et al. 2019). Three kinds of cells matter:
#
# | cell | mark | what students get |
# |---|---|---|
# | a task | `### BEGIN SOLUTION` … `### END SOLUTION` | the gap, with *YOUR CODE HERE* |
# | a test that they see | `grade`, `locked`, points | the same, not editable |
# | a test that they do not see | `### BEGIN HIDDEN TESTS` … `### END HIDDEN TESTS` | nothing |
#
# Here is one with a single task. (In practice you write it in JupyterLab; nbgrader's *Create Assignment* sets the metadata.)

# %%
def marked(source, name, points=0, solution=False):
    """A code cell with nbgrader's marks."""
    grading = {"grade_id": name, "grade": bool(points), "points": points, "solution": solution, "task": False}
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {"nbgrader": {**grading, "locked": not solution, "schema_version": 3}},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


TASK = '''def decided_at(lens):
    """The first layer from which on the lens's first target is on top at the last position, to the end."""
    ### BEGIN SOLUTION
    rank = lens.data["target_rank"].isel(prompt=0, position=-1, target=0)
    decided = None
    for layer in reversed(rank["layer"].values.tolist()):
        if int(rank.sel(layer=layer)) != 1:
            break
        decided = layer
    return decided
    ### END SOLUTION
'''
TEST = '''paris = edif.logit_lens(model, "The Eiffel Tower is in the city of", targets=[" Paris"], positions=[-1], progress=False)
assert abs(decided_at(paris) - 29) <= 1, "Read the lens at the last position, from the last layer downwards."
### BEGIN HIDDEN TESTS
hamlet = edif.logit_lens(model, "The author of Hamlet is William", targets=[" Shakespeare"], positions=[-1], progress=False)
assert abs(decided_at(hamlet) - 27) <= 1
rome = edif.logit_lens(model, "The Eiffel Tower is in the city of", targets=[" Rome"], positions=[-1], progress=False)
assert decided_at(rome) is None
### END HIDDEN TESTS
'''
assignment = {
    "cells": [marked(TASK, "decided-at", solution=True), marked(TEST, "decided-at-test", points=3)],
    "metadata": {"kernelspec": {"name": "edif", "display_name": "eDIF", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
with open("lens-week-1.ipynb", "w", encoding="utf-8") as file:
    json.dump(assignment, file)

handed_out = student_version(assignment, "lens-week-1.ipynb")
print(f"{points(assignment):g} points\n")
for cell in handed_out["cells"]:
    print(cell["source"])

# %% [markdown]
# Expected: 3 points, a function with a gap, and the visible test. The page does this when you *release* the file; it
# refuses a mark that begins and does not end, for then a solution would be handed out.
#
# **Numbers in tests.** Another machine, another batch, another dtype: the last digits differ, and where two layers are nearly
# equal the first one may differ by one. So the test allows one layer, and a test of a probability should allow 0.01. Do not
# ask for equality with a number that the model computed.
#
# ## 3. Are the tests worth something?
#
# A test that everybody passes grades nothing. Before you release, hand in three times yourself: your solution, the gap as it
# is, and the answer of somebody who has only made the visible test pass.
#
# > **What do you expect?** How many points does `return 29` get from the visible test alone, and how many with the hidden ones?

# %%
def graded(notebook, answer=None):
    """Points of a submission, as autograding counts them: cells in order, a test is right or not."""
    known, score = {"edif": edif, "model": model}, 0
    for cell in notebook["cells"]:
        grading = cell["metadata"]["nbgrader"]
        source = answer if answer is not None and grading["solution"] else cell["source"]
        try:
            exec(source, known)
        except Exception as error:
            print(f"   {type(error).__name__} {error}".rstrip())
        else:
            score += grading["points"]
    return score


used_before = edif.usage().use["device_seconds_today"]
SHORTCUT = "def decided_at(lens):\n    return 29\n"
grades = {"own solution": graded(assignment)}
used = edif.usage().use["device_seconds_today"] - used_before
grades["gap as it was"] = graded(handed_out)
grades["shortcut, visible test alone"] = graded(handed_out, SHORTCUT)
grades["shortcut, hidden tests too"] = graded(assignment, SHORTCUT)
for who, score in grades.items():
    print(f"{score} of {points(assignment):g}   {who}")

# %% [markdown]
# Expected: 3, 0, 3 and 0. Without the hidden tests the shortcut would have had full points, and with them it has none. The last of
# them asks for something that is *not there* (Rome is never on top): a control, as in every study here.
#
# ## 4. A lab hour: what the machine can bear
#
# Thirty people press *Run* in the same minute. What one of them needs you can measure: the seconds that your own solution has
# just taken on the devices.
#
# > **What do you expect?** Thirty students, two jobs at once. How long does the last one wait, at least?

# %% tags=["varies"]
STUDENTS, AT_ONCE = 30, 2  # ask your operator how many jobs run at once
print(f"one solution: {used:.2f} s of the devices")
print(f"all of them: the last is done after {STUDENTS * used / AT_ONCE:.0f} s, at least")

# %% [markdown]
# It is a *lower bound*: other people, the way there and back, and kernels that share the machine come on top. For a whole tutorial
# your operator can measure a class instead of guessing: `./edif bench lab --users 30 --tutorial 02_gender_bias`.
#
# On the course's page you plan a *lab hour*: in that time each student has at least a weight that you choose (4 at most, unless the
# operator allows more), and everybody else has 1. What is shared out among those who wait is the devices' time.
#
# > **What do you expect?** Thirty students beside ten researchers who always have jobs waiting. What share do the students have
# > without a lab hour, and with weight 4?

# %%
def share(students, weight, others):
    """Part of the devices that a class gets when everybody has jobs waiting."""
    return students * weight / (students * weight + others)


for weight in (1, 4):
    print(f"weight {weight}: {share(STUDENTS, weight, 10):.0%} for the class, {share(STUDENTS, weight, 10) / STUDENTS:.1%} for each student")

# %% [markdown]
# Expected: 75 % and 92 %. A lab hour makes nobody's job faster: it makes others wait longer. For a class that is alone on the machine it
# changes nothing. The dispatcher keeps to such shares within two hundredths (simulated in `./edif bench fairness`).
#
# ## 5. The hour itself
#
# | when | what |
# |---|---|
# | a week before | roster in, or the link sent; the lab hour planned; the assignment released and fetched once by yourself, from a student's account |
# | the day before | a link to the room, and to [the glossary](glossary.ipynb); all log in once, so that first starts are over |
# | 0–15 min | [00_hello](00_hello.ipynb) together in the *room*: one notebook, several write in it |
# | 15–60 min | each alone with one study, such as [02_gender_bias](02_gender_bias.ipynb). **Predictions are written down before the cell is run** (White & Gunstone 1992): a result that nobody has predicted surprises nobody |
# | 60–80 min | two neighbours compare what they predicted, and say in one sentence what the numbers do *not* show |
# | 80–90 min | hand in; what is handed in late is taken until the time that you have set |
# | after | *collect*, grade, *return feedback* |
#
# **Helping.** You see a student's notebook only with the student's word, for a while, and both of you see that it is open.
#
# **What is enforced.** Where servers have Unix accounts of their own, hidden tests and others' submissions are closed to every program. On an
# installation on one account they are closed to JupyterLab and the pages, and not to code in a notebook; the page of your course says
# which it is. Do not hold an exam on such a one.
#
# ## Exercises
#
# **Exercise 1.** This roster is refused. Find out why and mend it, so that both people are in, Grace as an instructor.

# %%
REFUSED = "login\tname\trole\ngrace\tGrace Hopper\tProfessor\nalan\tAlan Turing\t\nAlan\tAlan Turing\tstudent\n"
# your code


# %% [markdown]
# <details><summary>Solution of exercise 1</summary>
#
# ```python
# print(read_roster(REFUSED.encode()).problems)
# mended = read_roster(b"login\tname\trole\ngrace\tGrace Hopper\tinstructor\nalan\tAlan Turing\t\n")
# print([(person.account, str(person.role)) for person in mended.entries], mended.problems)
# ```
#
# Two lines are wrong: there is no role *professor*, and account names are in lower case, so *Alan* is *alan* once more.
#
# </details>
#
# **Exercise 2.** Somebody hands in a function that looks from the first layer *upwards* and gives the first layer at which the target is
# on top, even if it falls again. Do the tests notice? If not, what test would?

# %%
# your code


# %% [markdown]
# <details><summary>Solution of exercise 2</summary>
#
# ```python
# UPWARDS = '''def decided_at(lens):
#     rank = lens.data["target_rank"].isel(prompt=0, position=-1, target=0)
#     on_top = [int(layer) for layer in rank["layer"].values if int(rank.sel(layer=layer)) == 1]
#     return on_top[0] if on_top else None
# '''
# print(graded(assignment, UPWARDS), "points")
# stricter = """import types
# import xarray
# ranks = xarray.DataArray([[[[1]], [[2]], [[1]]]], dims=("prompt", "layer", "position", "target"), coords={"layer": [0, 1, 2]})
# assert decided_at(types.SimpleNamespace(data={"target_rank": ranks})) == 2
# """
# better = {**assignment, "cells": [*assignment["cells"], marked(stricter, "falls-again", points=1)]}
# noticed = [graded(better), graded(better, UPWARDS)]
# print(noticed)
# ```
#
# They do not (3 points): in none of the three tests is the target on top and falls again. A test on numbers that you made up
# yourself is the sharper one: it needs no model, costs nothing, and holds the case that your three do not.
#
# </details>
#
# ## Sources
#
# Project Jupyter et al. (2019), *nbgrader: A Tool for Creating and Grading Assignments in the Jupyter Notebook*, Journal of Open
# Source Education 2, doi:10.21105/jose.00032. White & Gunstone (1992), *Probing Understanding*,
# Falmer Press (predict, observe, explain). What every page of a course does is told in `docs/instructor.md` of the workbench.
