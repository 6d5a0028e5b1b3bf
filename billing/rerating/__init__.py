"""Re-rating: what past calls would cost at other rates, booked as corrections that can be undone.

    start ─▶ look (page by page) ─▶ preview ─▶ post (batch by batch) ─▶ posted ─▶ undo (batch by batch) ─▶ undone

Each step may stop anywhere and be told again. A posting is never edited: the charge stays what it was, and a correction
beside it says what it costs now.
"""
