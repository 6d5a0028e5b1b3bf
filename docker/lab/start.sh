#!/bin/sh
# Makes the store, an account with 100 EUR and a tariff where they are missing, then runs everything.
set -e
callctl init --operator laboratory
if ! callctl account show lab >/dev/null 2>&1; then
  callctl tariff add retail
  callctl rates import /lab/rates.csv --tariff retail
  callctl account add lab --tariff retail --code lab-1 --did 31101234
  callctl topup lab 100 --id lab-first
fi
exec callctl up
