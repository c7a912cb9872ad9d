"""The papers beside what was measured: tables, claims, scoreboard, figures. Reads results and measures nothing."""
