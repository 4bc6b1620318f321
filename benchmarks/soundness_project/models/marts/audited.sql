{# Reads what a hook at the start of the run has made. #}
select what, count(*) as n from main.audit group by what
