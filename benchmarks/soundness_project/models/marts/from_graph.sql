{% set names = [] %}
{% if execute %}
{% for node in graph.nodes.values() if node.resource_type == 'model' and 'marts' in node.tags %}
{% do names.append(node.name) %}
{% endfor %}
{% endif %}
select '{{ names | sort | join(",") }}' as marts, {{ names | length }} as number
