"""Courses: rosters, workspaces, assignments, rooms; what their people may do on the fabric, and how they are helped.

``python -m edif_courses`` is a service of the hub (pages below ``/services/courses/``).  The hub reads the register of
courses when a server starts (:mod:`edif_hub.course_hooks`), and the ``edif course`` command writes to it as well.
"""
